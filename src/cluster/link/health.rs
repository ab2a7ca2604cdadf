//! What a link is good for.

/// What a link is good for, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::cluster) enum Health {
    /// Both directions work, or have not been tried yet.
    Good,
    /// Nothing was received for a while: new sessions prefer other members.
    Suspect,
    /// The peer sent CORDON: new sessions need another member, node calls prefer others.
    Cordoned,
    /// One direction is broken: new sessions need another member.
    Broken,
    /// The peer sent GOAWAY: even bound sessions need another member.
    Draining,
    /// The peer is gone.
    Closed,
}

#[cfg(feature = "admin")]
impl Health {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Suspect => "suspect",
            Self::Cordoned => "cordoned",
            Self::Broken => "broken",
            Self::Draining => "draining",
            Self::Closed => "closed",
        }
    }
}
