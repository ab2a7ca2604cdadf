use bytestring::ByteString;
use proptest::{
    collection::vec,
    prelude::{any, prop, proptest},
    prop_assert_eq, prop_oneof,
    strategy::{Just, Strategy},
};

use super::{
    super::proto::{Close, Hello, Missed, Trace, User, Users},
    *,
};

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn route() -> impl Strategy<Value = Bytes> {
    "[A-Za-z.]{0,20}".prop_map(|route| ByteString::from(route).into_bytes())
}

fn id() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(-1), 0..1i64 << 53, any::<i64>()]
}

fn usual() -> impl Strategy<Value = Frame> {
    let numbers = (0..46i32, id(), any::<u16>(), any::<bool>(), id());
    (numbers, any::<u8>(), any::<u32>(), route(), bytes()).prop_map(
        |((kind, session, request, error, uid), credit, timeout_ms, route, body)| Frame {
            kind,
            session,
            request: request.into(),
            route,
            body,
            error,
            uid,
            credit: credit.into(),
            timeout_ms,
            ..Frame::default()
        },
    )
}

fn rare() -> impl Strategy<Value = Frame> {
    let numbers = (any::<u32>(), any::<u64>(), any::<u64>());
    let flags = any::<[bool; 6]>();
    (usual(), numbers, vec(id(), 0..3), flags, bytes()).prop_map(
        |(usual, (binds, opened, stream), sessions, flags, state)| Frame {
            binds,
            opened,
            stream,
            sessions,
            target: "x".repeat(usize::from(flags[0])),
            hello: flags[0].then(Box::<Hello>::default),
            close: flags[1].then(Box::<Close>::default),
            user: flags[2].then(Box::<User>::default),
            trace: flags[3].then(|| {
                Box::new(Trace {
                    trace_id: state,
                    ..Trace::default()
                })
            }),
            more: flags[4].then(|| {
                Box::new(Users {
                    uids: vec![7, 0],
                    texts: vec!["ann".to_owned()],
                })
            }),
            missed: flags[5].then(Box::<Missed>::default),
            ..usual
        },
    )
}

proptest! {
    #[test]
    fn bytes_are_those_of_the_generated_code(
        frames in vec(prop_oneof![3 => usual(), 1 => rare()], 0..5),
    ) {
        let batch = Batch { frames };
        let mut encoded = Vec::new();
        batch.append_to(&mut encoded);
        prop_assert_eq!(&encoded, &batch.encode_to_vec());
        let encoded = Bytes::from(encoded);
        prop_assert_eq!(Batch::read(&encoded), Ok(batch.clone()));
        prop_assert_eq!(Batch::decode(encoded), Ok(batch));
    }

    #[test]
    fn other_bytes_are_read_as_by_the_generated_code(
        frames in vec(prop_oneof![usual(), rare()], 0..3),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut encoded = Batch { frames }.encode_to_vec();
        for (at, byte) in changes {
            if !encoded.is_empty() {
                let at = at.index(encoded.len());
                encoded[at] = byte;
            }
        }
        if is_cut {
            encoded.truncate(cut.index(encoded.len() + 1));
        }
        let encoded = Bytes::from(encoded);
        prop_assert_eq!(Batch::read(&encoded).ok(), Batch::decode(encoded).ok());
    }

    #[test]
    fn any_bytes_are_read_as_by_the_generated_code(encoded in vec(prop_oneof![any::<u8>(), 0..0x70u8], 0..40)) {
        let encoded = Bytes::from(encoded);
        prop_assert_eq!(Batch::read(&encoded).ok(), Batch::decode(encoded).ok());
    }
}
