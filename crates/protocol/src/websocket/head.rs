//! The heads of frames.

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// A message, or its first part; nominally text.
    Text = 1,
    /// A message, or its first part.
    Binary = 2,
    /// The sender closes; nothing follows.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    fn new(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Whether the frame ends its message.
    pub(super) is_final: bool,
    /// Whether a reserved bit is set, which is for extensions.
    pub(super) is_extended: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub(super) payload: u64,
    /// Bytes of the payload's length behind the second byte: 0, 2 or 8.
    pub(super) extended_length: usize,
    /// Bytes of the head itself.
    pub(super) len: usize,
}

/// The opcode is none of RFC 6455.
#[derive(Debug)]
pub(super) struct UnknownOpcode;

impl Head {
    /// Parses the head at the beginning of `bytes`; `None` if it is not there as a whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, UnknownOpcode> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let short = second & 0x7F;
        let length = match short {
            126 => rest.get(..2),
            127 => rest.get(..8),
            _ => Some(&rest[..0]),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let payload = match length.len() {
            0 => u64::from(short),
            _ => (length.iter()).fold(0, |value, byte| (value << 8) | u64::from(*byte)),
        };
        let rest = &rest[length.len()..];
        let mask = match (second & 0x80, rest.first_chunk()) {
            (0, _) => None,
            (_, None) => return Ok(None),
            (_, Some(mask)) => Some(*mask),
        };
        Ok(Some(Self {
            is_final: first & 0x80 != 0,
            is_extended: first & 0x70 != 0,
            opcode: Opcode::new(first & 0x0F).ok_or(UnknownOpcode)?,
            mask,
            payload,
            extended_length: length.len(),
            len: 2 + length.len() + mask.map_or(0, |mask| mask.len()),
        }))
    }
}
