//! Identifiers of 128 bits: random, or a hash. On the wire 16 raw bytes, for people 32 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

/// Bytes or text that are no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 16 bytes, or 32 hexadecimal digits")]
pub struct BadId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// From exactly 16 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, BadId> {
                bytes.try_into().map(Self).map_err(|_| BadId)
            }
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
            /// The raw bytes, owned, as the wire has them.
            #[must_use]
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(BadId);
                }
                let value = u128::from_str_radix(text, 16).map_err(|_| BadId)?;
                Ok(Self(value.to_be_bytes()))
            }
        }
    };
}

id!(
    /// Names a stream: random for a live stream or a successor; for a file the hash of what it is.
    StreamId
);
id!(
    /// One uninterrupted life of a device's sample counter. I11: minted once per opening, never reused.
    Epoch
);
id!(
    /// XXH3-128, big-endian: of a column, a chunk, a definition; and the digest of a stream at a seq.
    Hash
);
id!(
    /// Minted with a workspace's schema; an agent that meets another one stops.
    LedgerId
);
id!(
    /// The claim on a stream's row: 128 random bits, new for every `Open`.
    Owner
);
id!(
    /// The identity of an outbox, minted with it.
    AgentId
);
id!(
    /// One session of an agent with a server.
    SessionId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let id = StreamId([0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0x0f]);
        assert_eq!(id.to_string().parse::<StreamId>(), Ok(id));
        assert_eq!(StreamId::from_slice(&id.to_vec()), Ok(id));
        assert_eq!("+e0102030405060708090a0b0c0d0e0f".parse::<StreamId>(), Err(BadId));
        assert_eq!(StreamId::from_slice(&[0; 15]), Err(BadId));
    }
}
