//! Looks for numbers that JSON cannot express. Nothing is written.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

/// Fails at the first number that is NaN or infinite.
#[derive(Clone, Copy)]
pub(super) struct FiniteNumbers;

type Error = serde::de::value::Error;
type Result = std::result::Result<(), Error>;

fn check(number: f64) -> Result {
    if number.is_finite() {
        Ok(())
    } else {
        Err(Error::custom(format_args!("{number} is no number of JSON")))
    }
}

macro_rules! nothing {
    ($($method:ident($($argument:ty),*);)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result {
            Ok(())
        }
    )*};
}

macro_rules! compound {
    ($($method:ident($($argument:ty),*) $compound:ident;)*) => {
        $(type $compound = Self;)*
        $(
            fn $method(self, $(_: $argument),*) -> std::result::Result<Self, Error> {
                Ok(self)
            }
        )*
    };
}

impl Serializer for FiniteNumbers {
    type Ok = ();
    type Error = Error;

    nothing! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    compound! {
        serialize_seq(Option<usize>) SerializeSeq;
        serialize_tuple(usize) SerializeTuple;
        serialize_tuple_struct(&'static str, usize) SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) SerializeTupleVariant;
        serialize_map(Option<usize>) SerializeMap;
        serialize_struct(&'static str, usize) SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) SerializeStructVariant;
    }

    fn serialize_f32(self, number: f32) -> Result {
        check(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result {
        check(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result {
        value.serialize(self)
    }
}

macro_rules! values {
    ($($compound:ident $method:ident($($name:ty)?);)*) => {$(
        impl $compound for FiniteNumbers {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result {
                value.serialize(*self)
            }

            fn end(self) -> Result {
                Ok(())
            }
        }
    )*};
}

values! {
    SerializeSeq serialize_element();
    SerializeTuple serialize_element();
    SerializeTupleStruct serialize_field();
    SerializeTupleVariant serialize_field();
    SerializeStruct serialize_field(&'static str);
    SerializeStructVariant serialize_field(&'static str);
}

impl SerializeMap for FiniteNumbers {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(*self)
    }

    fn end(self) -> Result {
        Ok(())
    }
}
