//! The tables a vCPU starts with: page tables, descriptor tables, task-state segment. Laid out here, so that the
//! guest needs no boot code and starts in ring 3.

use std::mem::offset_of;

use vtax_scenarios::plan::PageSize;
use vtax_workloads::machine::{
    AREA_ABOUT, AREA_GDT, AREA_IST_STACK, AREA_RING0_STACK, AREA_TSS, ATA_COMMAND_BLOCK,
    ATA_CONTROL, About, CODE_BASE, CODE_BYTES, DEVICES_BYTES, DEVICES_PHYSICAL, DEVICES_VIRTUAL,
    PORT_DONE, PORT_NOTHING, RAM_BASE, RING0_CS, TSS_SELECTOR,
};

use crate::guest::image::Image;
use crate::guest::layout::{CODE_TABLE, DEVICE_DIRECTORY, IDT, PAGE_TABLES, physical, vcpu_area};
use crate::guest::ram::{Ram, RamError};

const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
/// Present, writable, user, accessed.
const ENTRY: u64 = 0b10_0111;
/// Present, user, accessed.
const READ_ONLY: u64 = 0b10_0101;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// Write-through and uncached, for registers.
const UNCACHED: u64 = 0b1_1000;

/// Offset of the I/O permission bitmap in the task-state segment: right behind its fixed part.
const IO_BITMAP: u16 = 0x68;
/// Bytes of the bitmap: ports 0 to 0x3ff.
const IO_BITMAP_LEN: u16 = 128;
/// Limit of the task-state segment: one byte of ones must follow the bitmap (Intel SDM vol. 1, 20.5.2).
pub const TSS_LIMIT: u32 = (IO_BITMAP + IO_BITMAP_LEN) as u32;
/// Limit of the global descriptor table: up to the two-slot TSS descriptor.
pub const GDT_LIMIT: u16 = TSS_SELECTOR + 15;
/// Limit of the interrupt descriptor table: 256 gates.
pub const IDT_LIMIT: u16 = 256 * 16 - 1;

// One large page maps all devices, and one the image's code.
const _: () = assert!(DEVICES_BYTES == 2 << 20 && DEVICES_VIRTUAL < 1 << 30);
const _: () = assert!(CODE_BYTES == 2 << 20 && CODE_BASE < 1 << 30);

/// Writes page tables that map all of RAM at [`RAM_BASE`], the devices at [`DEVICES_VIRTUAL`] and the image's code, which
/// lies at guest-physical address `code`, at [`CODE_BASE`]; returns CR3.
///
/// Entries of all levels are accessed and those of pages dirty from the start, so that no walk writes to them (Intel SDM
/// vol. 3, 5.8): under shadow paging each such write would be an exit.
///
/// # Errors
/// RAM is too small for its tables.
pub fn page_tables(ram: &Ram, page_size: PageSize, vcpus: u32, code: u64) -> Result<u64, RamError> {
    let gibs = ram.len().div_ceil(1 << 30);
    let top = PAGE_TABLES;
    // RAM_BASE is 1 GiB: one directory-pointer table reaches to 512 GiB.
    let pointers = top + PAGE;
    let directories = pointers + PAGE;
    let tables = vtax_scenarios::memory::reserved_bytes(vcpus);
    let first_gib = RAM_BASE >> 30;
    ram.write(
        DEVICE_DIRECTORY + (DEVICES_VIRTUAL >> 21) * 8,
        &(DEVICES_PHYSICAL | ENTRY | DIRTY | LARGE | UNCACHED),
    )?;
    let code = if page_size == PageSize::Size4K {
        small_pages(ram, CODE_TABLE, |offset| (code + offset) | READ_ONLY)?;
        physical(CODE_TABLE) | ENTRY
    } else {
        code | READ_ONLY | LARGE
    };
    ram.write(DEVICE_DIRECTORY + (CODE_BASE >> 21) * 8, &code)?;
    ram.write(pointers, &(physical(DEVICE_DIRECTORY) | ENTRY))?;
    ram.write(top, &(physical(pointers) | ENTRY))?;
    for gib in 0..gibs {
        let offset = gib << 30;
        let entry = match page_size {
            PageSize::Size1G => leaf(offset) | LARGE,
            PageSize::Size2M | PageSize::Size4K => {
                let directory = directories + gib * PAGE;
                page_directory(ram, directory, offset, page_size, tables)?;
                physical(directory) | ENTRY
            }
        };
        ram.write(pointers + (first_gib + gib) * 8, &entry)?;
    }
    Ok(physical(top))
}

/// Maps 2 MiB at a virtual address below 1 GiB to guest-physical memory, whatever is or is not there.
///
/// # Errors
/// RAM is too small for its tables.
pub fn window(ram: &Ram, address: u64, physical: u64) -> Result<(), RamError> {
    ram.write(
        DEVICE_DIRECTORY + (address >> 21) % ENTRIES * 8,
        &(physical | ENTRY | DIRTY | LARGE),
    )
}

fn page_directory(
    ram: &Ram,
    directory: u64,
    offset: u64,
    page_size: PageSize,
    tables: u64,
) -> Result<(), RamError> {
    let chunks = (ram.len() - offset).min(1 << 30).div_ceil(2 << 20);
    for chunk in 0..chunks {
        let start = offset + (chunk << 21);
        let entry = if page_size == PageSize::Size4K {
            let table = tables + (start >> 21) * PAGE;
            small_pages(ram, table, |offset| leaf(start + offset))?;
            physical(table) | ENTRY
        } else {
            leaf(start) | LARGE
        };
        ram.write(directory + chunk * 8, &entry)?;
    }
    Ok(())
}

/// Writes a table of 4 KiB pages; `entry` of the first byte of each.
fn small_pages(ram: &Ram, table: u64, entry: impl Fn(u64) -> u64) -> Result<(), RamError> {
    let mut page = [0_u8; 4096];
    for (index, slot) in (0..ENTRIES).zip(page.chunks_exact_mut(8)) {
        slot.copy_from_slice(&entry(index * PAGE).to_le_bytes());
    }
    ram.write_bytes(table, &page)
}

fn leaf(offset: u64) -> u64 {
    physical(offset) | ENTRY | DIRTY
}

/// Writes the interrupt descriptor table: every vector goes to ring 0, and ring 3 may call the gate, vector 3.
///
/// # Errors
/// RAM is too small.
pub fn interrupt_table(ram: &Ram, image: &Image) -> Result<(), RamError> {
    for vector in 0..256 {
        let handler = image.header.ring0_vectors + vector * image.header.ring0_vector_stride;
        let dpl: u64 = if vector == 3 { 3 } else { 0 };
        // Double faults may come from a broken stack: they get their own (interrupt stack table, entry 1).
        let stack: u64 = if vector == 8 { 1 } else { 0 };
        // 64-bit interrupt gate (Intel SDM vol. 3, 7.14.1).
        let low = (handler & 0xffff)
            | (u64::from(RING0_CS) << 16)
            | (stack << 32)
            | ((0x8e | dpl << 5) << 40)
            | ((handler >> 16 & 0xffff) << 48);
        ram.write(IDT + vector * 16, &low)?;
        ram.write(IDT + vector * 16 + 8, &(handler >> 32))?;
    }
    Ok(())
}

/// Tells a vCPU its number and the rate of its clock.
///
/// # Errors
/// RAM is too small.
pub fn about(ram: &Ram, vcpu: u32, tsc_khz: u32) -> Result<(), RamError> {
    let place = vcpu_area(vcpu) + AREA_ABOUT;
    ram.write(place + offset_of!(About, vcpu) as u64, &u64::from(vcpu))?;
    ram.write(
        place + offset_of!(About, ticks_per_milli) as u64,
        &u64::from(tsc_khz),
    )
}

/// Writes a vCPU's global descriptor table and task-state segment.
///
/// # Errors
/// RAM is too small.
pub fn descriptors(ram: &Ram, vcpu: u32) -> Result<(), RamError> {
    let area = vcpu_area(vcpu);
    let gdt = area + AREA_GDT;
    let tss = RAM_BASE + area + AREA_TSS;
    // Flat 64-bit segments; only the access byte and the L bit count in long mode (Intel SDM vol. 3, 3.4.5).
    for (selector, descriptor) in [
        (0x10_u64, 0x00af_9b00_0000_ffff_u64), // ring-0 code
        (0x18, 0x00cf_9300_0000_ffff),         // ring-0 data
        (0x28, 0x00cf_f300_0000_ffff),         // ring-3 data
        (0x30, 0x00af_fb00_0000_ffff),         // ring-3 code
        (
            u64::from(TSS_SELECTOR), // busy 64-bit TSS
            u64::from(TSS_LIMIT) | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56,
        ),
        (u64::from(TSS_SELECTOR) + 8, tss >> 32),
    ] {
        ram.write(gdt + selector, &descriptor)?;
    }
    // RSP0 and IST1 (Intel SDM vol. 3, 9.7). Ring 3 has two ports, and those of the ATA disk.
    ram.write(area + AREA_TSS + 4, &(RAM_BASE + area + AREA_RING0_STACK))?;
    ram.write(area + AREA_TSS + 36, &(RAM_BASE + area + AREA_IST_STACK))?;
    ram.write(area + AREA_TSS + 102, &IO_BITMAP)?;
    let mut bitmap = [0xff_u8; IO_BITMAP_LEN as usize + 1];
    let disk = ATA_COMMAND_BLOCK..ATA_COMMAND_BLOCK + 8;
    for port in [PORT_DONE, PORT_NOTHING, ATA_CONTROL]
        .into_iter()
        .chain(disk)
    {
        bitmap[usize::from(port / 8)] &= !(1 << (port % 8));
    }
    ram.write_bytes(area + AREA_TSS + u64::from(IO_BITMAP), &bitmap)
}
