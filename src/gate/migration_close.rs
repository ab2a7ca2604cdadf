//! Why a session that has moved is to be closed at its next gate, as a message. No I/O.

use bytes::Bytes;

use crate::{cluster::SessionClose, kick::Kick, session::CloseReason};

/// Writes why a session is to be closed.
pub(super) fn write_close(session: i64, reason: &CloseReason) -> SessionClose {
    let (label, detail) = reason.parts();
    let kick = match reason {
        CloseReason::KickedWith(kick) => kick.encode().into(),
        _ => Bytes::new(),
    };
    SessionClose {
        session,
        kick,
        reason: detail.to_owned(),
        label: label.to_owned(),
    }
}

/// Reads why a session is to be closed.
pub(super) fn read_close(message: &SessionClose) -> CloseReason {
    match &*message.label {
        _ if !message.kick.is_empty() => CloseReason::KickedWith(Kick::decode(&message.kick)),
        "" => CloseReason::Closed(message.reason.clone()),
        label => CloseReason::of(label, message.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kick::Reconnect;

    #[test]
    fn a_reason_stays_the_same_however_often_it_is_passed_on() {
        let kick = Kick::new("X-1", "go").with_reconnect(Reconnect::Never);
        for reason in [
            CloseReason::Closed("done".to_owned()),
            CloseReason::Closed(String::new()),
            CloseReason::Kicked("out".to_owned()),
            CloseReason::Kicked(String::new()),
            CloseReason::KickedWith(kick),
            CloseReason::Denied,
            CloseReason::Protocol("odd".to_owned()),
        ] {
            let once = read_close(&write_close(7, &reason));
            let twice = read_close(&write_close(7, &once));
            assert_eq!((&once, &twice), (&reason, &reason));
        }
        let bare = SessionClose::default();
        assert_eq!(read_close(&bare), CloseReason::Closed(String::new()));
    }
}
