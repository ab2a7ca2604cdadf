//! Messages and the route dictionary.

use bytes::{Bytes, BytesMut};
use nano_protocol::message::{
    Dictionary, DictionaryError, Kind, Message, MessageError, RouteFault,
};
use proptest::{collection::vec, prelude::*};

use crate::{dictionary, hex};

#[test]
fn request_ids_are_varints_and_responses_carry_them_back() {
    let ids = [
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16_384, "808001"),
        ((1 << 32) + 5, "8580808010"),
        (1 << 63, "80808080808080808001"),
        (u64::MAX, "ffffffffffffffffff01"),
    ];
    for (id, bytes) in ids {
        assert_message(
            &Dictionary::default(),
            &format!("00{bytes}094563686f2e4563686f62"),
            &Message::request(id, "Echo.Echo", "b"),
        );
        assert_message(
            &Dictionary::default(),
            &format!("04{bytes}62"),
            &Message::response(id, false, "b"),
        );
    }
}

#[test]
fn an_id_may_be_longer_than_needed_and_bits_over_64_are_dropped() {
    for (bytes, id) in [
        ("818000", 1),
        ("85808080808080808080808000", 5),
        ("ffffffffffffffffff7f", u64::MAX),
        ("8080808080808080808001", 0),
    ] {
        let data = hex(&format!("00{bytes}094563686f2e4563686f7a"));
        assert_eq!(
            Message::decode(data, &dictionary()),
            Ok(Message::request(id, "Echo.Echo", "z")),
            "{bytes}"
        );
    }
}

#[test]
fn notifies_and_pushes_carry_a_route_and_no_id() {
    assert_message(
        &Dictionary::default(),
        "02094563686f2e53696e6b78",
        &Message::notify("Echo.Sink", "x"),
    );
    let push = Message::push("onEcho", "payload");
    assert_message(
        &Dictionary::default(),
        "06066f6e4563686f7061796c6f6164",
        &push,
    );
    assert_eq!(
        encoded(
            &Message {
                id: 9,
                error: true,
                ..push.clone()
            },
            &dictionary()
        ),
        hex("0700027061796c6f6164")
    );
}

#[test]
fn routes_in_the_dictionary_travel_as_codes_and_plain_ones_remain_accepted() {
    assert_message(
        &dictionary(),
        "0105000178",
        &Message::request(5, "Echo.Echo", "x"),
    );
    assert_message(
        &dictionary(),
        "03000178",
        &Message::notify("Echo.Echo", "x"),
    );
    assert_message(&dictionary(), "0700027070", &Message::push("onEcho", "pp"));
    assert_message(&dictionary(), "07012c", &Message::push("Dict.known", ""));
    assert_message(
        &dictionary(),
        "07ffff",
        &Message::push("T.PushThenResp", ""),
    );
    assert_eq!(
        Message::decode(hex("0005094563686f2e4563686f78"), &dictionary()),
        Ok(Message::request(5, "Echo.Echo", "x"))
    );
}

#[test]
fn a_response_has_neither_route_nor_code() {
    let response = Message {
        route: "Echo.Echo".into(),
        ..Message::response(5, false, "x")
    };
    assert_eq!(encoded(&response, &dictionary()), hex("040578"));
    assert_eq!(
        Message::decode(hex("050578"), &dictionary()),
        Ok(Message::response(5, false, "x"))
    );
}

#[test]
fn empty_bodies_are_messages() {
    assert_message(
        &Dictionary::default(),
        "0401",
        &Message::response(1, false, ""),
    );
    assert_message(
        &Dictionary::default(),
        "0001094563686f2e4563686f",
        &Message::request(1, "Echo.Echo", ""),
    );
    assert_message(
        &Dictionary::default(),
        "06076f6e456d707479",
        &Message::push("onEmpty", ""),
    );
    assert_message(&Dictionary::default(), "0200", &Message::notify("", ""));
}

#[test]
fn bit_20_marks_an_error_reply_and_other_high_bits_mean_nothing() {
    assert_message(
        &Dictionary::default(),
        "240162",
        &Message::response(1, true, "b"),
    );
    assert_eq!(
        Message::decode(hex("d40162"), &dictionary()),
        Ok(Message::response(1, false, "b"))
    );
    assert_eq!(
        Message::decode(hex("f001094563686f2e4563686f78"), &dictionary()),
        Ok(Message::request(1, "Echo.Echo", "x"))
    );
}

#[test]
fn each_fault_of_a_message_has_its_own_error() {
    let route = |kind, id, fault| MessageError::Route { kind, id, fault };
    for (bytes, error) in [
        ("", MessageError::Empty),
        ("0801", MessageError::Kind(4)),
        ("0e01", MessageError::Kind(7)),
        ("00", MessageError::Id),
        ("04", MessageError::Id),
        ("008080", MessageError::Id),
        ("0001", route(Kind::Request, 1, RouteFault::Missing)),
        ("02", route(Kind::Notify, 0, RouteFault::Missing)),
        ("0101", route(Kind::Request, 1, RouteFault::Missing)),
        ("0210616263", route(Kind::Notify, 0, RouteFault::Truncated)),
        ("0300", route(Kind::Notify, 0, RouteFault::Truncated)),
        (
            "0105270f78",
            route(Kind::Request, 5, RouteFault::UnknownCode(9999)),
        ),
        ("000702fffe", route(Kind::Request, 7, RouteFault::NotUtf8)),
    ] {
        assert_eq!(
            Message::decode(hex(bytes), &dictionary()),
            Err(error),
            "{bytes}"
        );
    }
    let no_dictionary = Message::decode(hex("0105000178"), &Dictionary::default());
    assert_eq!(
        no_dictionary,
        Err(route(Kind::Request, 5, RouteFault::UnknownCode(1)))
    );
}

#[test]
fn a_route_over_255_bytes_is_an_error_and_appends_nothing() {
    let mut out = BytesMut::new();
    for message in [
        Message::request(1, "r".repeat(256), ""),
        Message::notify("r".repeat(256), ""),
        Message::push("r".repeat(256), ""),
    ] {
        assert_eq!(
            message.encode(&dictionary(), &mut out),
            Err(MessageError::RouteTooLong(256))
        );
    }
    assert!(out.is_empty());
    assert_eq!(
        encoded(&Message::push("r".repeat(255), ""), &dictionary()).len(),
        257
    );
}

#[test]
fn the_body_of_a_message_is_a_slice_of_its_data() {
    let data = hex("06066f6e4563686f7061796c6f6164");
    let message = Message::decode(data.clone(), &dictionary()).unwrap();
    assert_eq!(message.body.as_ptr(), data[8..].as_ptr());
}

proptest! {
    #[test]
    fn a_message_survives_the_wire_with_and_without_a_dictionary(
        kind in 0..4, id: u64, route in prop_oneof![Just("onEcho".to_owned()), "\\PC{0,60}"], body in vec(any::<u8>(), 0..40), error: bool,
    ) {
        let message = match kind {
            0 => Message::request(id, route, body),
            1 => Message::notify(route, body),
            2 => Message::response(id, error, body),
            _ => Message::push(route, body),
        };
        for dictionary in [dictionary(), Dictionary::default()] {
            prop_assert_eq!(Message::decode(encoded(&message, &dictionary), &dictionary), Ok(message.clone()));
        }
    }
}

#[test]
fn a_dictionary_trims_routes_and_lists_them_bytewise() {
    let dictionary = Dictionary::new([(" onEcho\n", 2), ("Échec", 3), ("Room.Join", 0)]).unwrap();
    let entries: Vec<_> = dictionary
        .iter()
        .map(|(route, code)| (route.to_string(), code))
        .collect();
    assert_eq!(
        entries,
        [
            ("Room.Join".to_owned(), 0),
            ("onEcho".to_owned(), 2),
            ("Échec".to_owned(), 3)
        ]
    );
    assert_eq!(dictionary.route(2).unwrap(), "onEcho");
    assert_eq!(
        (
            dictionary.code("Room.Join"),
            dictionary.code(" onEcho\n"),
            dictionary.route(1)
        ),
        (Some(0), None, None)
    );
    assert_eq!(
        (
            dictionary.len(),
            dictionary.is_empty(),
            Dictionary::default().is_empty()
        ),
        (3, false, true)
    );
}

#[test]
fn a_dictionary_of_routes_counts_from_one_in_bytewise_order() {
    let dictionary = Dictionary::from_routes(["b", "B", " a"]).unwrap();
    assert_eq!(
        ["B", "a", "b"].map(|route| dictionary.code(route)),
        [Some(1), Some(2), Some(3)]
    );

    let most = Dictionary::from_routes((0..65_535).map(|n| n.to_string())).unwrap();
    assert_eq!(most.route(65_535).unwrap(), "9999");
    assert_eq!(
        Dictionary::from_routes((0..65_536).map(|n| n.to_string())),
        Err(DictionaryError::TooManyRoutes(65_536))
    );
}

#[test]
fn a_dictionary_error_names_the_route() {
    let error =
        |entries: &[(&str, u16)]| Dictionary::new(entries.to_vec()).unwrap_err().to_string();
    assert_eq!(
        error(&[("a.B", 1), (" a.B", 2)]),
        r#"the route "a.B" is in the dictionary twice"#
    );
    assert_eq!(
        error(&[("a.B", 1), ("c.D", 1)]),
        r#"the routes "a.B" and "c.D" share the code 1"#
    );
    assert_eq!(error(&[(" ", 7)]), "the route with code 7 is empty");
    let long = "r".repeat(256);
    assert_eq!(
        error(&[(&long, 1)]),
        format!("the route {long:?} is over 255 bytes")
    );
    assert_eq!(
        Dictionary::from_routes(["a", "a "]),
        Err(DictionaryError::DuplicateRoute { route: "a".into() })
    );
}

fn encoded(message: &Message, dictionary: &Dictionary) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(dictionary, &mut out).unwrap();
    out.freeze()
}

/// The message is encoded to these bytes, and they are decoded to it.
#[track_caller]
fn assert_message(dictionary: &Dictionary, bytes: &str, message: &Message) {
    assert_eq!(encoded(message, dictionary), hex(bytes));
    assert_eq!(
        Message::decode(hex(bytes), dictionary).as_ref(),
        Ok(message)
    );
}
