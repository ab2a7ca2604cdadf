//! Errors as clients and other error types see them.

use super::*;

fn failing() -> Result {
    Err(Error::conflict("taken").with_source(fmt::Error))
}

#[test]
fn it_becomes_a_boxed_error_and_back_without_loss() {
    fn boxed() -> Result<(), Box<dyn error::Error + Send + Sync>> {
        Ok(failing()?)
    }
    fn local() -> Result<(), Box<dyn error::Error>> {
        failing()?;
        Ok(())
    }
    assert_eq!(local().unwrap_err().to_string(), "NANO-409: taken");
    let error = boxed().unwrap_err();
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<fmt::Error>())
    );
    let back = Error::from(*error.downcast::<StdError>().unwrap());
    assert_eq!((back.code(), back.message()), (code::CONFLICT, "taken"));
    assert!(back.source_as::<fmt::Error>().is_some());
}

#[cfg(feature = "anyhow")]
#[test]
fn it_goes_into_anyhow_with_its_source() {
    fn main() -> anyhow::Result<()> {
        failing()?;
        Ok(())
    }
    let error = main().unwrap_err();
    assert_eq!(format!("{error:#}").split(": ").next(), Some("NANO-409"));
    assert_eq!(
        error.downcast_ref::<StdError>().unwrap().get().code(),
        code::CONFLICT
    );
    assert_eq!(error.chain().count(), 2);
}

#[test]
fn a_body_is_read_in_both_forms_and_any_other_is_the_text_of_an_internal_error() {
    let error = Error::not_found("no room").with_metadata("room", "7");
    let json = br#"{"code":"NANO-404","msg":"no room","metadata":{"room":"7"}}"#;
    let protobuf = b"\x0a\x08NANO-404\x12\x07no room\x1a\x09\x0a\x04room\x12\x017";
    assert_eq!(error.to_body(), &json[..]);
    assert_eq!(error.to_protobuf(), &protobuf[..]);
    for body in [&json[..], &protobuf[..]] {
        let read = Error::from_body(body);
        assert_eq!(
            (read.code().as_str(), read.message()),
            ("NANO-404", "no room")
        );
        assert_eq!(read.metadata(), error.metadata());
    }
    for other in ["", "\n", "\n{}", "\x0a\x00", "[]", "\x0a\x7fcut"] {
        let read = Error::from_body(other.as_bytes());
        assert_eq!((read.code(), read.message()), (code::INTERNAL, other));
    }
    assert_eq!(
        Error::from_body(&Error::new("", "x").to_protobuf()).code(),
        code::INTERNAL
    );
}

#[test]
fn a_fixed_body_stays_and_formats_encode_the_others() {
    let protobuf = |error: &Error| Some(error.to_protobuf());
    let fixed = Error::conflict("taken").with_body("mine");
    assert_eq!(fixed.encoded_by(protobuf).to_body(), "mine");
    let error = Error::conflict("taken").encoded_by(protobuf);
    assert_eq!(error.to_body(), error.to_protobuf());
    assert_eq!(Error::conflict("x").encoded_by(|_| None).to_body()[0], b'{');
}

#[test]
fn a_foreign_error_is_internal_and_kept_as_the_source() {
    let error = Error::from(fmt::Error);
    assert_eq!(error.code(), code::INTERNAL);
    assert!(error.source().is_some() && error.source_as::<fmt::Error>().is_some());
}

#[test]
fn debug_has_the_text_with_its_lines_and_the_causes_that_it_does_not_name() {
    let error = Error::bad_request("a\nb").with_source(fmt::Error);
    assert_eq!(
        format!("{error:?}"),
        format!("NANO-400: a\nb\ncaused by: {}", fmt::Error)
    );
    let error = Error::from(fmt::Error);
    assert_eq!(format!("{error:?}"), error.to_string());
    assert!(format!("{error:#?}").starts_with("Error {\n    code: \"NANO-500\""));
}
