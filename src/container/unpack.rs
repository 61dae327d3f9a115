//! Compressed units of containers, each unpacked whole into its known length.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Form, corrupt};
use crate::read::ReadError;

/// How a unit is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Deflate without any header (RFC 1951).
    Deflate,
    /// One frame of zstd (RFC 8878).
    Zstd,
}

/// The `len` bytes that were packed. What follows the packed bytes is not looked at.
///
/// # Errors
/// If they do not unpack to just as many. `what` is the unit, for that.
pub(super) fn unpack(form: Form, what: &str, method: Method, packed: &[u8], len: usize) -> Result<Vec<u8>, ReadError> {
    let unpacked = match method {
        Method::Deflate => inflate(packed, len, false),
        Method::Zstd => unpack_zstd(packed, len),
    };
    unpacked.map_err(|why| corrupt(form, what, why))
}

fn inflate(packed: &[u8], len: usize, has_header: bool) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::with_capacity(len);
    let mut inflater = Decompress::new(has_header);
    let status = inflater.decompress_vec(packed, &mut unpacked, FlushDecompress::Finish);
    let status = status.map_err(|error| format!("cannot be inflated: {error}"))?;
    // A stream that would go on is cut off at the unit's end.
    if unpacked.len() != len || (has_header && status != Status::StreamEnd) {
        return Err(format!("inflates to {} bytes, not to {len}", unpacked.len()));
    }
    Ok(unpacked)
}

fn unpack_zstd(packed: &[u8], len: usize) -> Result<Vec<u8>, String> {
    let name = |code| format!("cannot be unpacked: zstd: {}", zstd::zstd_safe::get_error_name(code));
    let frame = zstd::zstd_safe::find_frame_compressed_size(packed).map_err(name)?;
    let frame = packed.get(..frame).ok_or("is cut off")?;
    let unpacked = zstd::bulk::decompress(frame, len).map_err(|error| format!("cannot be unpacked: zstd: {error}"))?;
    if unpacked.len() != len {
        return Err(format!("unpacks to {} bytes, not to {len}", unpacked.len()));
    }
    Ok(unpacked)
}
