//! Hashes that nodes of all versions must agree on. Golden values pin what is built on them.

/// 64-bit FNV-1a over parts.
pub(in crate::cluster) struct Fnv1a(u64);

impl Fnv1a {
    /// Adds bytes. Parts of variable length need their length before them.
    pub(in crate::cluster) fn write<'a>(&mut self, bytes: impl IntoIterator<Item = &'a u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(in crate::cluster) fn finish(self) -> u64 {
        self.0
    }
}

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

/// 64-bit FNV-1a.
pub(in crate::cluster) fn fnv1a<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    let mut hash = Fnv1a::default();
    hash.write(bytes);
    hash.finish()
}

/// Spreads the bits: the finalizer of MurmurHash3.
pub(in crate::cluster) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
