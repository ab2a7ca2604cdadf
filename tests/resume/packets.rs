//! Where packets begin and end in the bytes of a connection.

/// Follows one direction of a connection, TCP or WebSocket: which of the two it is, its first byte
/// says.
#[derive(Default)]
pub(crate) struct Packets {
    form: Form,
    /// The head of the packet or frame that is under way.
    head: Vec<u8>,
    /// The bytes behind the head that are missing, once the head is whole.
    left: Option<u64>,
    kind: Option<u8>,
}

#[derive(Default)]
enum Form {
    #[default]
    Unknown,
    /// The HTTP upgrade; how much of its end has just passed.
    Upgrade(usize),
    Tcp,
    WebSocket,
}

const END_OF_UPGRADE: &[u8] = b"\r\n\r\n";

impl Packets {
    /// Takes the next byte; the type of the packet that it completes, 0 for a frame without one.
    pub(crate) fn push(&mut self, byte: u8) -> Option<u8> {
        match &mut self.form {
            Form::Unknown if b"GH".contains(&byte) => self.form = Form::Upgrade(0),
            Form::Unknown => {
                self.form = Form::Tcp;
                return self.of_packet(byte);
            }
            Form::Upgrade(matched) => {
                *matched = match END_OF_UPGRADE[*matched] == byte {
                    true => *matched + 1,
                    false => usize::from(byte == b'\r'),
                };
                if *matched == END_OF_UPGRADE.len() {
                    self.form = Form::WebSocket;
                }
            }
            Form::Tcp | Form::WebSocket => return self.of_packet(byte),
        }
        None
    }

    /// Whether a packet has begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        !self.head.is_empty()
    }

    /// The type of the packet that is under way, as soon as it is known.
    pub(crate) fn kind(&self) -> Option<u8> {
        self.kind
    }

    fn of_packet(&mut self, byte: u8) -> Option<u8> {
        match &mut self.left {
            None => {
                self.head.push(byte);
                self.left = self.rest_of_head();
            }
            Some(left) => {
                *left -= 1;
                // Of a frame that is not a close, a ping or a pong.
                if self.kind.is_none() && self.head[0] & 0x0f < 8 {
                    self.kind = Some(byte ^ self.mask());
                }
            }
        }
        if self.left != Some(0) {
            return None;
        }
        self.head.clear();
        self.left = None;
        Some(self.kind.take().unwrap_or(0))
    }

    /// The length of what follows the head, once that is whole.
    fn rest_of_head(&mut self) -> Option<u64> {
        let head = &self.head;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        if let Form::Tcp = self.form {
            self.kind = Some(head[0]);
            return (head.len() == 4).then(|| number(&head[1..]));
        }
        let second = *head.get(1)?;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        (head.len() == 2 + extended + masked).then(|| match extended {
            0 => u64::from(second & 0x7f),
            _ => number(&head[2..2 + extended]),
        })
    }

    /// What the first byte of a frame's payload is masked with.
    fn mask(&self) -> u8 {
        match self.head[1] & 0x80 {
            0 => 0,
            _ => self.head[self.head.len() - 4],
        }
    }
}
