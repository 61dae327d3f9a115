//! Unpacks a compressed unit of a container. Its unpacked length is known beforehand.

use std::ops::RangeInclusive;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Form, corrupt};
use crate::read::ReadError;

/// How a unit is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Deflate without any header (RFC 1951).
    Deflate,
    /// Deflate with a header and a checksum (RFC 1950).
    Zlib,
    /// One frame of zstd (RFC 8878).
    Zstd,
}

/// The bytes that were packed. What follows the packed bytes is not looked at.
///
/// # Errors
/// If they do not unpack, or not to as many as `lengths` allow. `what` is the unit, for that.
pub(super) fn unpack(
    form: Form,
    what: &str,
    method: Method,
    packed: &[u8],
    lengths: RangeInclusive<usize>,
) -> Result<Vec<u8>, ReadError> {
    let unpacked = match method {
        Method::Deflate => inflate(packed, *lengths.end(), false),
        Method::Zlib => inflate(packed, *lengths.end(), true),
        Method::Zstd => unpack_zstd(packed, *lengths.end()),
    };
    let unpacked = unpacked.map_err(|why| corrupt(form, what, why))?;
    if !lengths.contains(&unpacked.len()) {
        let why = format!("unpacks to {} bytes, not to {}", unpacked.len(), lengths.end());
        return Err(corrupt(form, what, why));
    }
    Ok(unpacked)
}

fn inflate(packed: &[u8], most: usize, has_header: bool) -> Result<Vec<u8>, String> {
    let mut unpacked = vec![0; most];
    let mut inflater = Decompress::new(has_header);
    let status = inflater.decompress(packed, &mut unpacked, FlushDecompress::Finish);
    let status = status.map_err(|error| format!("cannot be inflated: {error}"))?;
    // Only where there is a checksum at its end must the end be seen.
    if has_header && status != Status::StreamEnd {
        return Err("its end is missing".to_owned());
    }
    unpacked.truncate(usize::try_from(inflater.total_out()).unwrap_or(most));
    Ok(unpacked)
}

fn unpack_zstd(packed: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let name = |code| format!("cannot be unpacked: zstd: {}", zstd::zstd_safe::get_error_name(code));
    let frame = zstd::zstd_safe::find_frame_compressed_size(packed).map_err(name)?;
    let frame = packed.get(..frame).ok_or("is cut off")?;
    zstd::bulk::decompress(frame, most).map_err(|error| format!("cannot be unpacked: zstd: {error}"))
}
