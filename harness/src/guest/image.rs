//! The guest image: parsed once, copied into RAM for every boot.

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use sha2::{Digest as _, Sha256};
use vtax_workloads::abi::{ABI_VERSION, HEADER_MAGIC, Header, fnv1a};
use vtax_workloads::machine::{IMAGE_OFFSET, RAM_BASE};

use super::layout::IMAGE_MAX;
use super::ram::{Ram, RamError};

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not an ELF that this loader understands.
    #[error("the guest image is not a static x86-64 ELF: {0}")]
    Elf(#[from] object::read::Error),
    /// Not vtax's image, or of another version.
    #[error("the guest image does not fit this harness: {0}; rebuild both from one source tree")]
    Mismatch(&'static str),
}

/// The header in these bytes, wherever they lie.
fn read_header(bytes: &[u8]) -> Option<Header> {
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
        .collect();
    let [
        magic,
        abi,
        payload,
        ring3_entry,
        ring0_vectors,
        ring0_vector_stride,
        text_start,
        text_end,
    ] = words.try_into().ok()?;
    Some(Header {
        magic,
        abi,
        payload,
        ring3_entry,
        ring0_vectors,
        ring0_vector_stride,
        text_start,
        text_end,
    })
}

/// A loaded image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The bytes that stand at [`IMAGE_OFFSET`] in guest RAM.
    bytes: Vec<u8>,
    /// Its entry points.
    pub header: Header,
    /// SHA-256 of the ELF file, in hex.
    pub sha256: String,
    /// Hash of its code, as [`vtax_workloads::abi::Op::Identity`] computes it.
    pub text_hash: u64,
}

impl Image {
    /// The image that is built into this binary.
    ///
    /// # Errors
    /// As [`Image::parse`].
    pub fn embedded() -> Result<Self, ImageError> {
        Self::parse(vtax_guest_images::BARE_ELF)
    }

    /// Lays out an ELF's segments as they will stand in guest RAM.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(elf: &[u8]) -> Result<Self, ImageError> {
        let file = FileHeader64::<LittleEndian>::parse(elf)?;
        let endian = file.endian()?;
        let mut bytes = Vec::new();
        for segment in file.program_headers(endian, elf)? {
            if segment.p_type(endian) != PT_LOAD {
                continue;
            }
            let data = segment
                .data(endian, elf)
                .map_err(|()| ImageError::Mismatch("a segment lies outside the file"))?;
            let outside = ImageError::Mismatch("a segment lies outside the image's place in RAM");
            let start = segment
                .p_paddr(endian)
                .checked_sub(IMAGE_OFFSET)
                .filter(|start| {
                    start
                        .checked_add(segment.p_memsz(endian))
                        .is_some_and(|end| {
                            end <= IMAGE_MAX && segment.p_filesz(endian) <= segment.p_memsz(endian)
                        })
                })
                .and_then(|start| usize::try_from(start).ok());
            let (Some(start), Ok(size)) = (start, usize::try_from(segment.p_memsz(endian))) else {
                return Err(outside);
            };
            let end = start + size;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..start + data.len()].copy_from_slice(data);
        }

        let header = bytes
            .get(..size_of::<Header>())
            .and_then(read_header)
            .filter(|header| header.magic == HEADER_MAGIC)
            .ok_or(ImageError::Mismatch("it has no vtax header"))?;
        if header.abi != ABI_VERSION {
            return Err(ImageError::Mismatch("its mailbox has another version"));
        }
        let place = RAM_BASE + IMAGE_OFFSET;
        let inside = |address: u64| {
            address
                .checked_sub(place)
                .and_then(|offset| usize::try_from(offset).ok())
                .filter(|&offset| offset <= bytes.len())
        };
        let (Some(start), Some(end), Some(_), Some(_), Some(_)) = (
            inside(header.text_start),
            inside(header.text_end),
            inside(header.payload),
            inside(header.ring3_entry),
            inside(
                header
                    .ring0_vectors
                    .saturating_add(256 * header.ring0_vector_stride),
            ),
        ) else {
            return Err(ImageError::Mismatch("an entry point lies outside it"));
        };
        let text = bytes
            .get(start..end)
            .ok_or(ImageError::Mismatch("its code ends before it starts"))?;
        Ok(Self {
            text_hash: fnv1a(text),
            sha256: Sha256::digest(elf)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            header,
            bytes,
        })
    }

    /// Copies the image to its place.
    ///
    /// # Errors
    /// The RAM is smaller than the image needs.
    pub fn load(&self, ram: &Ram) -> Result<(), RamError> {
        ram.write_bytes(IMAGE_OFFSET, &self.bytes)
    }
}
