//! The shape of the records in the log's files.

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft_log::codeq::{Decode, Encode};

use super::flush::Flushed;

/// Marks the beginning of a frame, so that frames can be found behind damaged bytes.
pub(super) const FRAME_MAGIC: [u8; 8] = *b"VFframe1";
/// Bytes of a frame before its body: magic, flushed offset, length, checksum.
pub(super) const FRAME_HEADER_BYTES: usize = 8 + 8 + 4 + 16;
/// The largest body of a frame: an entry, with room for its envelope.
pub(super) const FRAME_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One entry as it lies in the log: its body, a checksum over it that is ours (a flipped length byte
/// must not pass for a cut-off tail), and how far the log was known to be flushed when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Everything below this offset of the log had been flushed.
    pub(super) flushed_offset: u64,
    /// An encoded entry body.
    pub(super) body: Bytes,
}

impl Frame {
    fn checksum(flushed_offset: u64, body: &[u8]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&flushed_offset.to_be_bytes());
        hasher.update(body);
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        short
    }

    /// Reads a frame from the beginning of `bytes`; `None` if no whole and sound one stands there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Encode for Frame {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        let length = u32::try_from(self.body.len()).map_err(|_| invalid("entry too large"))?;
        w.write_all(&FRAME_MAGIC)?;
        w.write_all(&self.flushed_offset.to_be_bytes())?;
        w.write_all(&length.to_be_bytes())?;
        w.write_all(&Self::checksum(self.flushed_offset, &self.body))?;
        w.write_all(&self.body)?;
        Ok(FRAME_HEADER_BYTES + self.body.len())
    }
}

impl Decode for Frame {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        let mut header = [0; FRAME_HEADER_BYTES];
        r.read_exact(&mut header)?;
        let (magic, rest) = header.split_at(8);
        let (flushed, rest) = rest.split_at(8);
        let (length, checksum) = rest.split_at(4);
        if magic != FRAME_MAGIC {
            return Err(invalid("a log entry without its frame"));
        }
        let flushed_offset = u64::from_be_bytes(flushed.try_into().map_err(|_| invalid("frame"))?);
        let length = u32::from_be_bytes(length.try_into().map_err(|_| invalid("frame"))?) as usize;
        if length > FRAME_BODY_BYTES_MAX {
            return Err(invalid("a log entry longer than any that is written"));
        }
        let mut body = vec![0; length];
        r.read_exact(&mut body)?;
        if Self::checksum(flushed_offset, &body) != *checksum {
            return Err(invalid("a log entry whose checksum is wrong"));
        }
        Ok(Self {
            flushed_offset,
            body: body.into(),
        })
    }
}

/// A vote as it lies in the log. Votes of one term follow one another only from "given" to "won".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VoteRecord {
    pub(super) term: u64,
    pub(super) committed: u64,
    pub(super) node: u64,
}

impl Encode for VoteRecord {
    fn encode<W: Write>(&self, mut w: W) -> Result<usize, io::Error> {
        Ok(
            self.term.encode(&mut w)?
                + self.committed.encode(&mut w)?
                + self.node.encode(&mut w)?,
        )
    }
}

impl Decode for VoteRecord {
    fn decode<R: Read>(mut r: R) -> Result<Self, io::Error> {
        Ok(Self {
            term: u64::decode(&mut r)?,
            committed: u64::decode(&mut r)?,
            node: u64::decode(&mut r)?,
        })
    }
}

/// What the log's files are made of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogTypes;

impl raft_log::Types for LogTypes {
    /// Term and index.
    type LogId = (u64, u64);
    type LogPayload = Frame;
    type Vote = VoteRecord;
    type Callback = Flushed;
    /// Whose log it is: see [`super::Identity`].
    type UserData = String;

    fn log_index(log_id: &Self::LogId) -> u64 {
        log_id.1
    }
    fn payload_size(payload: &Self::LogPayload) -> u64 {
        (FRAME_HEADER_BYTES + payload.body.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_notices_every_flipped_byte() {
        let frame = Frame {
            flushed_offset: 4711,
            body: Bytes::from_static(b"some entry"),
        };
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), FRAME_HEADER_BYTES + 10);
        assert_eq!(Frame::parse(&bytes), Some(frame));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Frame::parse(&damaged), None, "byte {at}");
        }
        assert_eq!(Frame::parse(&bytes[..bytes.len() - 1]), None);
    }
}
