//! Unpacks physical clusters, which may hold any bytes.
//!
//! What is compressed ends with its cluster, and zeros come before it; only the LZ4 of early filesystems begins with its
//! cluster. MicroLZMA is known by name only.

use flate2::{Decompress, FlushDecompress, Status};

use super::lz4;

/// The largest window that kernels allow to zstd, as a power of 2: a physical cluster's largest size.
const ZSTD_WINDOW_LOG: u32 = 20;

/// How a physical cluster is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::erofs) enum Method {
    Lz4,
    Lzma,
    Deflate,
    Zstd,
}

/// Why a cluster cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It does not unpack, or to another length.
    Corrupt,
    /// By this program.
    Unknown,
}

impl Method {
    pub(in crate::erofs) fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// The zeros before and after compressed bytes, and how much of what they unpack to is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// All there is.
    All,
    /// The start of it.
    Start,
}

/// Fills `output` with what `stored` unpacks to.
pub(super) fn unpack(
    method: Method,
    stored: &[u8],
    amount: Amount,
    ends_with_cluster: bool,
    output: &mut [u8],
) -> Result<(), Problem> {
    if method == Method::Lzma {
        return Err(Problem::Unknown);
    }
    if method == Method::Lz4 && !ends_with_cluster {
        return lz4::start(stored, output).ok_or(Problem::Corrupt);
    }
    let zeros = stored.iter().position(|&byte| byte != 0).ok_or(Problem::Corrupt)?;
    let stored = stored.get(zeros..).unwrap_or_default();
    let unpacked = match (method, amount) {
        (Method::Lz4, Amount::All) => {
            let len = lz4_flex::block::decompress_into(stored, output).ok();
            len.filter(|&len| len == output.len()).map(drop)
        }
        (Method::Lz4, Amount::Start) => lz4::start(stored, output),
        (Method::Deflate, amount) => deflate(stored, amount, output),
        (Method::Zstd, Amount::All) => zstd_all(stored, output),
        (Method::Zstd, Amount::Start) => zstd_start(stored, output),
        (Method::Lzma, _) => None,
    };
    unpacked.ok_or(Problem::Corrupt)
}

fn deflate(stored: &[u8], amount: Amount, output: &mut [u8]) -> Option<()> {
    let mut stream = Decompress::new(false);
    let flush = if amount == Amount::All { FlushDecompress::Finish } else { FlushDecompress::Sync };
    let status = stream.decompress(stored, output, flush).ok()?;
    let is_whole = stream.total_out() == output.len() as u64;
    (is_whole && (status == Status::StreamEnd || amount == Amount::Start)).then_some(())
}

fn zstd_all(stored: &[u8], output: &mut [u8]) -> Option<()> {
    let len = zstd::bulk::decompress_to_buffer(stored, output).ok()?;
    (len == output.len()).then_some(())
}

fn zstd_start(stored: &[u8], output: &mut [u8]) -> Option<()> {
    let mut stream = zstd::stream::read::Decoder::with_buffer(stored).ok()?.single_frame();
    stream.window_log_max(ZSTD_WINDOW_LOG).ok()?;
    std::io::Read::read_exact(&mut stream, output).ok()
}
