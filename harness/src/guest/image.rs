//! The guest image: parsed once, mapped once.

use std::sync::{Arc, Mutex, PoisonError};

use object::LittleEndian;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use sha2::{Digest as _, Sha256};
use vtax_workloads::abi::{ABI_VERSION, HEADER_MAGIC, Header, fnv1a};
use vtax_workloads::machine::{CODE_BASE, CODE_BYTES};

use super::code::Code;
use super::ram::RamError;

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
    /// What stands at [`CODE_BASE`].
    code: &'static [u8],
    /// The part of it that is executed.
    text: &'static [u8],
    /// Its entry points.
    pub header: Header,
    mapped: Arc<Mutex<Option<Code>>>,
}

impl Image {
    /// The image that is built into this binary.
    ///
    /// # Errors
    /// As [`Image::parse`].
    pub fn embedded() -> Result<Self, ImageError> {
        Self::parse(vtax_guest_images::BARE_ELF)
    }

    /// Looks where an ELF's segments will stand.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn parse(elf: &'static [u8]) -> Result<Self, ImageError> {
        let file = FileHeader64::<LittleEndian>::parse(elf)?;
        let endian = file.endian()?;
        let mut code = None;
        for segment in file.program_headers(endian, elf)? {
            if segment.p_type(endian) != PT_LOAD {
                continue;
            }
            let bytes = segment
                .data(endian, elf)
                .map_err(|()| ImageError::Mismatch("a segment lies outside the file"))?;
            let (start, len) = (segment.p_vaddr(endian), segment.p_memsz(endian));
            let fits = start == CODE_BASE && len == bytes.len() as u64 && len <= CODE_BYTES;
            if !fits || code.is_some() {
                return Err(ImageError::Mismatch("a segment lies outside its place"));
            }
            code = Some(bytes);
        }
        let code = code.ok_or(ImageError::Mismatch("it has no code at its place"))?;

        let header = code
            .get(..size_of::<Header>())
            .and_then(read_header)
            .filter(|header| header.magic == HEADER_MAGIC)
            .ok_or(ImageError::Mismatch("it has no vtax header"))?;
        if header.abi != ABI_VERSION {
            return Err(ImageError::Mismatch("its mailbox has another version"));
        }
        let inside = |address: u64| {
            let offset = usize::try_from(address.checked_sub(CODE_BASE)?).ok()?;
            (offset <= code.len()).then_some(offset)
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
        let text = code
            .get(start..end)
            .ok_or(ImageError::Mismatch("its code ends before it starts"))?;
        Ok(Self {
            elf,
            code,
            text,
            header,
            mapped: Arc::default(),
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

    /// The image's code, mapped in this process for as long as the image lives.
    ///
    /// # Errors
    /// Another image is mapped there, or the kernel refuses.
    pub fn code(&self) -> Result<Code, RamError> {
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        match mapped.as_ref() {
            Some(code) => Ok(code.clone()),
            None => Ok(mapped.insert(Code::map(self.code)?).clone()),
        }
    }
}
