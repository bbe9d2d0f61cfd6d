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

/// An image, ready to be loaded. Nothing of it is copied or hashed before that is wanted: neighbours start by the dozen.
#[derive(Clone, Debug)]
pub struct Image {
    elf: &'static [u8],
    /// What stands where behind [`IMAGE_OFFSET`] in guest RAM; all else there is zero.
    segments: Vec<(u64, &'static [u8])>,
    /// Its entry points.
    pub header: Header,
    text: &'static [u8],
}

impl Image {
    /// The image that is built into this binary.
    ///
    /// # Errors
    /// As [`Image::parse`].
    pub fn embedded() -> Result<Self, ImageError> {
        Self::parse(vtax_guest_images::BARE_ELF)
    }

    /// Looks where an ELF's segments will stand in guest RAM.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(elf: &'static [u8]) -> Result<Self, ImageError> {
        let file = FileHeader64::<LittleEndian>::parse(elf)?;
        let endian = file.endian()?;
        let mut segments = Vec::new();
        let mut len = 0;
        for segment in file.program_headers(endian, elf)? {
            if segment.p_type(endian) != PT_LOAD {
                continue;
            }
            let data = segment
                .data(endian, elf)
                .map_err(|()| ImageError::Mismatch("a segment lies outside the file"))?;
            let place = segment.p_paddr(endian).checked_sub(IMAGE_OFFSET);
            let place = place.and_then(|start| {
                let end = start.checked_add(segment.p_memsz(endian))?;
                let fits = end <= IMAGE_MAX && data.len() as u64 <= segment.p_memsz(endian);
                fits.then_some((start, end))
            });
            let (start, end) = place.ok_or(ImageError::Mismatch(
                "a segment lies outside the image's place in RAM",
            ))?;
            segments.push((start, data));
            len = len.max(end);
        }

        let header = bytes(&segments, 0, size_of::<Header>() as u64)
            .and_then(read_header)
            .filter(|header| header.magic == HEADER_MAGIC)
            .ok_or(ImageError::Mismatch("it has no vtax header"))?;
        if header.abi != ABI_VERSION {
            return Err(ImageError::Mismatch("its mailbox has another version"));
        }
        let place = RAM_BASE + IMAGE_OFFSET;
        let inside = |address: u64| {
            let offset = address.checked_sub(place)?;
            (offset <= len).then_some(offset)
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
        let text = end
            .checked_sub(start)
            .and_then(|len| bytes(&segments, start, len))
            .ok_or(ImageError::Mismatch("its code is not in one segment"))?;
        Ok(Self {
            elf,
            segments,
            header,
            text,
        })
    }

    /// SHA-256 of the ELF file, in hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(self.elf);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Hash of its code, as [`vtax_workloads::abi::Op::Identity`] computes it.
    #[must_use]
    pub fn text_hash(&self) -> u64 {
        fnv1a(self.text)
    }

    /// Copies the image to its place in RAM that was mapped anew, hence is zero.
    ///
    /// # Errors
    /// The RAM is smaller than the image needs.
    pub fn load(&self, ram: &Ram) -> Result<(), RamError> {
        self.segments.iter().try_for_each(|(start, data)| {
            ram.populate(IMAGE_OFFSET + start, data.len() as u64)?;
            ram.write_bytes(IMAGE_OFFSET + start, data)
        })
    }
}

/// These bytes of an image, where they are in one segment.
fn bytes(segments: &[(u64, &'static [u8])], start: u64, len: u64) -> Option<&'static [u8]> {
    segments.iter().find_map(|&(at, data)| {
        let from = usize::try_from(start.checked_sub(at)?).ok()?;
        let to = from.checked_add(usize::try_from(len).ok()?)?;
        data.get(from..to)
    })
}
