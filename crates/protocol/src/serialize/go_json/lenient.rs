//! The second reading of a message that serde did not take, or would take otherwise than Go.
//!
//! As in Go, the keys of structs match whatever their case, the last of several equal keys counts,
//! and null leaves a field as it is: at its default if it has one, at its zero value otherwise. A
//! field that is missing must have a default, which differs from Go.

use std::{collections::HashMap, fmt, vec};

use serde::{
    Deserialize,
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
        MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Result, value::RawValue};

use super::fold;

/// Structs, sequences and maps inside each other; serde_json has the same limit.
const MAX_DEPTH: usize = 128;

/// Decodes a message.
///
/// # Errors
/// The text is not JSON, or another value than the type has at some place.
pub(super) fn from_str<M: DeserializeOwned>(text: &str) -> Result<M> {
    let json: &RawValue = serde_json::from_str(text)?;
    // A null for a field with a default is that default. Only a message that then misses a field is
    // read with zero values for nulls.
    let with = |nulls| M::deserialize(Lenient::new(json, nulls));
    with(Nulls::Skipped).or_else(|_| with(Nulls::Zero))
}

/// What becomes of the fields of a struct that are null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Skipped,
    Zero,
}

/// A value that is read by the type that is wanted.
struct Lenient<'de> {
    text: &'de str,
    nulls: Nulls,
    depth: usize,
}

impl<'de> Lenient<'de> {
    fn new(json: &'de RawValue, nulls: Nulls) -> Self {
        Self {
            text: json.get(),
            nulls,
            depth: 0,
        }
    }

    fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// The text as serde_json reads it.
    fn strict(&self) -> serde_json::Deserializer<serde_json::de::StrRead<'de>> {
        serde_json::Deserializer::from_str(self.text)
    }

    fn inside(&self, json: &'de RawValue) -> Self {
        Self {
            text: json.get(),
            nulls: self.nulls,
            depth: self.depth + 1,
        }
    }

    /// The entries of an object; none of null.
    fn entries<V: Visitor<'de>>(&self, visitor: &V) -> Result<Vec<(String, Lenient<'de>)>> {
        self.check_depth()?;
        match self.text.as_bytes().first() {
            Some(b'n') => Ok(Vec::new()),
            Some(b'{') => {
                let Entries(entries) = serde_json::from_str(self.text)?;
                let entries = entries.into_iter();
                Ok(entries
                    .map(|(key, json)| (key, self.inside(json)))
                    .collect())
            }
            _ => Err(self.unexpected(visitor)),
        }
    }

    /// The elements of an array; none of null.
    fn elements<V: Visitor<'de>>(&self, visitor: &V) -> Result<Elements<'de>> {
        self.check_depth()?;
        match self.text.as_bytes().first() {
            Some(b'n') => Ok(Elements(Vec::new().into_iter())),
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(self.text)?;
                let elements: Vec<_> = elements.into_iter().map(|json| self.inside(json)).collect();
                Ok(Elements(elements.into_iter()))
            }
            _ => Err(self.unexpected(visitor)),
        }
    }

    fn check_depth(&self) -> Result<()> {
        if self.depth < MAX_DEPTH {
            Ok(())
        } else {
            Err(Error::custom("nesting limit exceeded"))
        }
    }

    fn unexpected<V: Visitor<'de>>(&self, visitor: &V) -> Error {
        let found = match self.text.as_bytes().first() {
            Some(b'[') => Unexpected::Seq,
            Some(b'{') => Unexpected::Map,
            Some(b'"') => Unexpected::Other("string"),
            Some(b't' | b'f') => Unexpected::Other("boolean"),
            _ => Unexpected::Other("number"),
        };
        Error::invalid_type(found, visitor)
    }

    fn visit_struct<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        let entries = self.entries(&visitor)?;
        visitor.visit_map(Members::new(merged(entries, fields, self.nulls)))
    }
}

/// Renames keys to the fields they stand for, and keeps the last value of each.
fn merged<'de>(
    entries: Vec<(String, Lenient<'de>)>,
    fields: &'static [&'static str],
    nulls: Nulls,
) -> Vec<(String, Lenient<'de>)> {
    let mut places = HashMap::new();
    let mut merged: Vec<(String, Lenient<'de>)> = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let key = if fields.contains(&&*key) {
            key
        } else {
            let same = fields.iter().find(|field| fold::equal(field, &key));
            same.map_or(key, |field| (*field).to_owned())
        };
        // A null does not take a value away that an earlier key has set.
        if value.is_null() && (nulls == Nulls::Skipped || places.contains_key(&key)) {
            continue;
        }
        match places.get(&key) {
            Some(&place) => {
                let (_, old): &mut (String, Lenient<'de>) = &mut merged[place];
                *old = value;
            }
            None => {
                places.insert(key.clone(), merged.len());
                merged.push((key, value));
            }
        }
    }
    merged
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.text {
                // Go reads minus zero as zero; serde_json as a float.
                "null" | "-0" => visitor.visit_u64(0),
                _ => self.strict().$method(visitor),
            }
        }
    )*};
}

macro_rules! or_zero {
    ($($method:ident $visit:ident $zero:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            if self.is_null() {
                return visitor.$visit($zero);
            }
            self.strict().$method(visitor)
        }
    )*};
}

macro_rules! strict {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            self.strict().$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient<'de> {
    type Error = Error;

    integers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);

    or_zero! {
        deserialize_bool visit_bool false;
        deserialize_f32 visit_f64 0.0;
        deserialize_f64 visit_f64 0.0;
        deserialize_str visit_str "";
        deserialize_string visit_str "";
        deserialize_bytes visit_bytes b"";
        deserialize_byte_buf visit_bytes b"";
    }

    strict!(deserialize_any deserialize_char deserialize_unit deserialize_identifier
        deserialize_ignored_any);

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.strict().deserialize_unit_struct(name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        self.check_depth()?;
        visitor.visit_newtype_struct(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let elements = self.elements(&visitor)?;
        visitor.visit_seq(elements)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        let elements = self.elements(&visitor)?;
        if elements.0.len() > len {
            return Err(Error::invalid_length(elements.0.len(), &visitor));
        }
        visitor.visit_seq(elements)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let entries = self.entries(&visitor)?;
        visitor.visit_map(Members::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.visit_struct(fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if !self.text.starts_with('{') {
            return self.strict().deserialize_enum(name, variants, visitor);
        }
        let mut entries = self.entries(&visitor)?;
        match (entries.pop(), entries.is_empty()) {
            (Some((variant, content)), true) => visitor.visit_enum(Variant { variant, content }),
            _ => Err(Error::custom("expected an object with one variant")),
        }
    }
}

/// An object, its keys in order.
struct Entries<'de>(Vec<(String, &'de RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The members of an object on their way to a visitor.
struct Members<'de> {
    left: vec::IntoIter<(String, Lenient<'de>)>,
    value: Option<Lenient<'de>>,
}

impl<'de> Members<'de> {
    fn new(entries: Vec<(String, Lenient<'de>)>) -> Self {
        Self {
            left: entries.into_iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        let Some((key, value)) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(MapKey(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(Error::custom("a value without a key")),
        }
    }
}

/// The key of a map; a number or a boolean stands in quotes.
struct MapKey(String);

macro_rules! quoted {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            // A reader, because nothing can borrow from this key.
            let mut key = serde_json::Deserializer::from_reader(self.0.as_bytes());
            let value = key.$method(visitor)?;
            key.end()?;
            Ok(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for MapKey {
    type Error = Error;

    quoted!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_bool);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.0
            .into_deserializer()
            .deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier
        ignored_any
    }
}

/// The elements of an array on their way to a visitor.
struct Elements<'de>(vec::IntoIter<Lenient<'de>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>> {
        self.0
            .next()
            .map(|value| seed.deserialize(value))
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// A variant of an enum that has content.
struct Variant<'de> {
    variant: String,
    content: Lenient<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Lenient<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Lenient<'de>)> {
        Ok((seed.deserialize(MapKey(self.variant))?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Lenient<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        <()>::deserialize(self)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.visit_struct(fields, visitor)
    }
}
