//! A plan in words, for `vtax scenario explain`.

use crate::claim::{Form, rule, taken_for_granted};
use crate::knobs::settings_text;
use crate::plan::{
    Backing, Cell, Completion, Disk, DiskBacking, DiskDevice, Net, NetBackend, NetLink, PageSize,
    Pinning, Plan, neighbours_text,
};
use crate::testable::Testability;
use crate::units::{duration_text, percent_text, size_text};

impl Cell {
    /// Blocks in one boot, warm-up apart.
    #[must_use]
    pub fn blocks_per_boot(&self) -> u64 {
        u64::from(self.measure.rounds) * 3
    }

    /// Nanoseconds that a boot takes at least: its blocks, and what it waits for KSM. Setting up the guest comes on top.
    #[must_use]
    pub fn boot_nanos(&self) -> u64 {
        self.blocks_per_boot()
            .saturating_mul(self.measure.block_nanos)
            .saturating_add(self.ksm_wait_nanos())
    }

    /// The same of all pilot boots.
    #[must_use]
    pub fn pilot_nanos(&self) -> u64 {
        self.boot_nanos()
            .saturating_mul(self.measure.pilot_boots.into())
    }
}

impl Plan {
    /// What the budget leaves for cells: experiments come after them and need theirs, up to half of it.
    #[must_use]
    pub fn cells_nanos(&self) -> u64 {
        let half = self.budget_nanos / 2;
        if self.cells.is_empty() {
            0
        } else {
            self.budget_nanos - self.experiments_nanos().min(half)
        }
    }

    /// About how long all experiments take, in nanoseconds.
    fn experiments_nanos(&self) -> u64 {
        let experiments = self.experiments.iter();
        experiments.fold(0, |sum: u64, it| sum.saturating_add(it.nanos()))
    }

    /// Nanoseconds that all cells' pilot boots take at least.
    #[must_use]
    pub fn pilot_nanos(&self) -> u64 {
        self.cells
            .iter()
            .fold(0, |sum: u64, cell| sum.saturating_add(cell.pilot_nanos()))
    }
}

/// What to tell one whose budget does not suffice for the pilots of the cells that can be measured; `None` where it does.
#[must_use]
pub fn budget_warning(plan: &Plan, here: &Testability) -> Option<String> {
    let measured = plan.cells.iter();
    let measured = measured.filter(|cell| !here.cells.contains_key(&cell.id));
    let pilots = measured.fold(0, |sum: u64, cell| sum.saturating_add(cell.pilot_nanos()));
    let budget = plan.cells_nanos();
    if pilots <= budget {
        return None;
    }
    let enough = pilots.saturating_add(plan.experiments_nanos().min(pilots));
    Some(format!(
        "the pilots take {} in blocks alone, and the budget leaves {} for cells: some will be undecided; --budget {} or more \
         suffices for the pilots",
        rough_duration(pilots),
        rough_duration(budget),
        whole_duration(enough)
    ))
}

const COLUMNS: usize = 18;

/// What a plan will do, for people: its cells, boots, blocks and the time that they take at least.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    explain_here(plan, &Testability::default())
}

/// The same, with a mark at what a host cannot test.
#[must_use]
pub fn explain_here(plan: &Plan, here: &Testability) -> String {
    let mut text = format!("{}\n", plan.scenario);
    if !plan.description.is_empty() {
        text += &format!("{}\n", plan.description);
    }
    // A share of native is a matter of cells.
    if !plan.cells.is_empty() || plan.claim.form != Form::Share {
        text += &format!("\nClaim: {}", rule(plan));
        if let Some(premise) = taken_for_granted(plan) {
            text += &format!(" {premise}");
        }
    }
    text += &format!("\nSeed {}.", plan.seed);
    if !plan.cells.is_empty() {
        text += &cells(plan, here);
    }
    if !plan.experiments.is_empty() {
        let gap = if plan.cells.is_empty() { "\n" } else { "" };
        text += &format!(
            "{gap}\nExperiments, in turns, within a budget of {}:\n\n",
            rough_duration(plan.budget_nanos)
        );
    }
    for it in &plan.experiments {
        let mark = if here.experiments.contains_key(&it.id) {
            "  not testable here"
        } else {
            ""
        };
        text += &format!(
            "{}  {} repetitions, about {} in all{mark}\n",
            it.label,
            it.repetitions,
            rough_duration(it.nanos())
        );
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// What boots wait for KSM during the pilots, and whether the budget suffices for these; empty where nothing waits.
fn waiting(plan: &Plan) -> String {
    let of = |cell: &Cell| {
        cell.ksm_wait_nanos()
            .saturating_mul(cell.measure.pilot_boots.into())
    };
    let waits = plan.cells.iter().map(of).fold(0, u64::saturating_add);
    if waits == 0 {
        return String::new();
    }
    let mut text = format!(
        "Of the pilots' time at least {} are boots that wait until KSM has merged what is alike.\n",
        rough_duration(waits)
    );
    let (pilots, budget) = (plan.pilot_nanos(), plan.cells_nanos());
    if pilots > budget {
        text += &format!(
            "The budget does not suffice for the pilots. Write budget = \"{}\" or more in [measure], let KSM look at more pages\n\
             at a time (ksm-pages-to-scan in [host]), or offer it less memory.\n",
            whole_duration(plan.budget_nanos.saturating_add(pilots - budget))
        );
    }
    text + "\n"
}

/// A time as a scenario may have it, rounded up: whole seconds, or minutes from two on.
pub(crate) fn whole_duration(nanos: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let seconds = nanos.div_ceil(SECOND);
    if seconds < 120 {
        format!("{seconds}s")
    } else {
        format!("{}min", seconds.div_ceil(60))
    }
}

/// What is said of the cells of a plan that has some.
fn cells(plan: &Plan, here: &Testability) -> String {
    let mut text = format!(
        " Cells take turns: each sweep boots every cell once, in a new random order.\n\
         Cells: {}. Pilots: {} {}, of a budget of {}. Setting up guests comes on top;\n\
         {}.\n\n{}",
        plan.cells.len(),
        rough_duration(plan.pilot_nanos()),
        if waiting(plan).is_empty() {
            "in blocks"
        } else {
            "in blocks and waiting"
        },
        rough_duration(plan.cells_nanos()),
        if plan.sized_by_precision() {
            "the rest of the budget goes to the boots that the wanted precision takes"
        } else {
            "the rest of the budget goes to further boots, the same number for each cell"
        },
        waiting(plan)
    );
    let mut rows = vec![
        [
            "cell",
            "vCPUs",
            "pinning",
            "scheduling",
            "memory",
            "backing",
            "baseline",
            "guest pages",
            "halt poll",
            "disk",
            "net",
            "neighbours",
            "host",
            "boots",
            "blocks a boot",
            "pilot",
            "precision",
            "here",
        ]
        .map(str::to_owned),
    ];
    let sized = plan.sized_by_precision();
    let mark = |cell: &Cell| match here.cells.get(&cell.id) {
        Some(_) => "not testable",
        None => "",
    };
    rows.extend(plan.cells.iter().map(|cell| row(cell, sized, mark(cell))));
    let (alike, varied): (Vec<usize>, Vec<usize>) = (0..COLUMNS).partition(|&column| {
        column > 0
            && rows[1..]
                .windows(2)
                .all(|pair| pair[0][column] == pair[1][column])
    });
    if let Some(first) = rows.get(1) {
        let alike: Vec<String> = alike
            .iter()
            .filter(|&&column| !first[column].is_empty())
            .map(|&column| format!("{} {}", rows[0][column], first[column]))
            .collect();
        text += &format!("In all cells: {}.\n\n", alike.join(", "));
    }
    text + &table(&rows, &varied)
}

/// `sized`: whether the wanted precision says how many boots there are; `here`: what the host says to the cell.
fn row(cell: &Cell, sized: bool, here: &str) -> [String; COLUMNS] {
    let guest = &cell.guest;
    let measure = &cell.measure;
    [
        cell.label.clone(),
        guest.vcpus.to_string(),
        pinning_text(&guest.pinning),
        guest
            .scheduling
            .map_or(String::new(), |policy| policy.to_string()),
        size_text(guest.memory),
        backing_text(guest.backing).to_owned(),
        cell.baseline_backing
            .map_or("same", backing_text)
            .to_owned(),
        page_size_text(guest.page_size).to_owned(),
        guest.halt_poll_nanos.map_or(String::new(), duration_text),
        guest.disk.as_ref().map_or(String::new(), disk_text),
        guest.net.as_ref().map_or(String::new(), net_text),
        neighbours_text(&cell.neighbours),
        settings_text(&cell.host),
        format!("{}–{}", measure.pilot_boots, measure.max_boots),
        format!(
            "{} × {}",
            cell.blocks_per_boot(),
            duration_text(measure.block_nanos)
        ),
        rough_duration(cell.pilot_nanos()),
        if sized {
            format!(
                "±{} at {}",
                percent_text(measure.precision),
                percent_text(measure.confidence)
            )
        } else {
            String::new()
        },
        here.to_owned(),
    ]
}

/// The given columns, aligned.
fn table(rows: &[[String; COLUMNS]], columns: &[usize]) -> String {
    let widths = columns.iter().map(|&column| {
        let lengths = rows.iter().map(|row| row[column].chars().count());
        (column, lengths.max().unwrap_or(0))
    });
    let widths: Vec<(usize, usize)> = widths.collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = widths
                .iter()
                .map(|&(column, width)| format!("{:width$}", row[column]))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

/// What a backing is called in a scenario file.
fn backing_text(backing: Backing) -> &'static str {
    match backing {
        Backing::Small => "4k",
        Backing::Thp => "thp",
        Backing::Huge2M => "2M",
        Backing::Huge1G => "1G",
    }
}

fn page_size_text(page_size: PageSize) -> &'static str {
    match page_size {
        PageSize::Size4K => "4k",
        PageSize::Size2M => "2M",
        PageSize::Size1G => "1G",
    }
}

/// A disk in one line: what the guest sees, and what is behind it.
#[must_use]
pub fn disk_text(disk: &Disk) -> String {
    let size = disk.bytes.map_or("all".to_owned(), size_text);
    let direct = if disk.direct {
        "O_DIRECT"
    } else {
        "page cache"
    };
    let backing = match &disk.backing {
        DiskBacking::Memory => format!("{size} of memory"),
        DiskBacking::Scratch => format!("{size} of scratch ({direct})"),
        DiskBacking::Path { path, .. } => format!("{size} of {path} ({direct})"),
    };
    let read_only = if disk.read_only { ", read-only" } else { "" };
    let name = disk.device.name();
    match disk.device {
        DiskDevice::AtaPio => format!("{name}, {backing}{read_only}"),
        DiskDevice::VirtioBlk => {
            let completion = completion_text(disk.completion);
            format!(
                "{name}, {backing}{read_only}, {} × {completion}",
                disk.queues
            )
        }
    }
}

/// A network link in one line: what the guest sees, who serves it, and what is behind it.
#[must_use]
pub fn net_text(net: &Net) -> String {
    let link = match net.link {
        NetLink::Namespace => "tap",
        NetLink::Bridge => "bridge",
    };
    let backend = match net.backend {
        NetBackend::Auto => "vhost-net or the VMM",
        NetBackend::Vhost => "vhost-net",
        NetBackend::Vmm => "the VMM",
    };
    format!(
        "virtio-net by {backend}, {link}, {}",
        completion_text(net.completion)
    )
}

fn completion_text(completion: Completion) -> &'static str {
    match completion {
        Completion::Interrupt => "interrupt",
        Completion::Poll => "poll",
    }
}

fn pinning_text(pinning: &Pinning) -> String {
    match pinning {
        Pinning::None => "none".to_owned(),
        Pinning::OneToOne => "one-to-one".to_owned(),
        Pinning::List(cpus) => format!("{cpus:?}"),
        Pinning::AllOn(cpu) => format!("all on {cpu}"),
    }
}

/// A time to two or three digits, for people.
pub(crate) fn rough_duration(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else if seconds < 7200.0 {
        format!("{:.1} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}
