//! Decoding within bounds.
//!
//! An element of a list takes two bytes on the wire and a hundred and more in memory: a message well within
//! its size could fill the memory of whoever decodes it. So the parts of a message (messages in it, and
//! texts of lists) are counted before anything is made of them, and more than [`PARTS_MAX`] are refused.
//! Only what the `.proto` files say is a message is looked into, never the bytes that a message carries.

use std::fmt;
use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The most parts of one message, those within parts too: the desired state of ten thousand VMs with
/// their network cards.
pub const PARTS_MAX: usize = 100_000;

/// A message of the protocol.
pub trait Bounded: Message + Default {
    /// Its place in the list of shapes.
    #[doc(hidden)]
    const SHAPE: usize;
}

/// Bytes that are no message, or one too many of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecodable {
    /// Not this message.
    Malformed(String),
    /// More than [`PARTS_MAX`] parts.
    TooManyParts,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed message: {why}"),
            Self::TooManyParts => write!(f, "a message of more than {PARTS_MAX} parts"),
        }
    }
}

impl std::error::Error for Undecodable {}

/// Reads a message of at most [`PARTS_MAX`] parts.
///
/// # Errors
/// If it has more, or is none.
pub fn decode<T: Bounded>(bytes: Bytes) -> Result<T, Undecodable> {
    let mut left = PARTS_MAX;
    count(&bytes, T::SHAPE, &mut left)?;
    T::decode(bytes).map_err(|error| Undecodable::Malformed(error.to_string()))
}

/// How often the field `number` stands in a message, whatever else is in it.
///
/// # Errors
/// If it is no message.
pub fn occurrences(bytes: &[u8], number: u64) -> Result<usize, Undecodable> {
    let mut fields = Fields(bytes);
    let mut found = 0;
    while let Some((field, _)) = fields.next()? {
        found += usize::from(field == number);
    }
    Ok(found)
}

fn count(bytes: &[u8], shape: usize, left: &mut usize) -> Result<(), Undecodable> {
    let mut fields = Fields(bytes);
    while let Some((number, content)) = fields.next()? {
        let part = SHAPES[shape].iter().find(|(known, _)| *known == number);
        if let (Some((_, inner)), Some(content)) = (part, content) {
            *left = left.checked_sub(1).ok_or(Undecodable::TooManyParts)?;
            // Messages that hold themselves there are none: this ends.
            if let Some(inner) = inner {
                count(content, *inner, left)?;
            }
        }
    }
    Ok(())
}

/// A field's number, and its content if it has a length.
type Field<'a> = (u64, Option<&'a [u8]>);

/// The fields of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, Undecodable> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let content = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            // Groups: no message of ours ever had one.
            _ => return Err(malformed("a field of an unknown form")),
        };
        Ok(Some((key >> 3, content)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Undecodable> {
        let split = self.0.split_at_checked(length);
        let (content, rest) = split.ok_or_else(|| malformed("a length beyond the end"))?;
        self.0 = rest;
        Ok(content)
    }

    fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(malformed("a number without an end"))
    }
}

fn malformed(why: &str) -> Undecodable {
    Undecodable::Malformed(why.to_owned())
}

/// tonic's codec for these messages, with [`decode`] in the place of the plain one.
#[derive(Debug, Clone)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// The reading half of [`BoundedCodec`].
#[derive(Debug, Clone)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::v1::agent_message::Body;
    use crate::agent::v1::{AgentMessage, ObservedState, ObservedVm, Tombstone};

    fn observed(vms: usize, confirmed: usize) -> AgentMessage {
        AgentMessage {
            body: Some(Body::Observed(ObservedState {
                vms: vec![ObservedVm::default(); vms],
                confirmed: vec![Tombstone::default(); confirmed],
                boot_id: "\n\0\n\0\n\0".repeat(PARTS_MAX / 3),
                ..ObservedState::default()
            })),
        }
    }

    #[test]
    fn parts_are_counted_to_the_last_and_not_in_texts() {
        // The state itself is a part.
        let most = observed(PARTS_MAX - 2, 1);
        let bytes = Bytes::from(most.encode_to_vec());
        assert_eq!(decode::<AgentMessage>(bytes), Ok(most));
        let bytes = Bytes::from(observed(PARTS_MAX - 2, 2).encode_to_vec());
        assert_eq!(
            decode::<AgentMessage>(bytes),
            Err(Undecodable::TooManyParts)
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &b"\x1a\x05\x01"[..],
            b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x0b",
            b"\x09\x01",
            b"\x0a\x02\x10",
        ] {
            let read = decode::<AgentMessage>(Bytes::from_static(bad));
            assert!(matches!(read, Err(Undecodable::Malformed(_))), "{read:?}");
        }
        assert_eq!(occurrences(b"\x1a\0\x08\x01\x1a\x01x", 3), Ok(2));
    }
}
