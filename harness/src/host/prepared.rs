//! A host that is set as cells want it, and that is put back: at the end, and when this is dropped, be it by an error or
//! by a panic. What neither reaches, SIGKILL and a power cut, the journal does.
//!
//! ```text
//! HostSettings ──set──► journal, write, audit ──► … ──restore──► write, audit, journal
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};

use vtax_reports::store::{Event, EventLog, StoreError};
use vtax_scenarios::plan::{HostSettings, Knob, Obstacle};

use super::journal::{Change, Journal, JournalError};
use super::knobs::{self, Part, PartError, Wanted};
use super::root::{HostRoot, ReadError};
use super::tsc::now_raw_nanos;

/// Why a knob is not set.
#[derive(Debug, thiserror::Error)]
pub enum KnobError {
    /// The host does not let it be set.
    #[error("`{knob}`: {obstacle}")]
    Obstacle {
        /// Which.
        knob: Knob,
        /// Why.
        obstacle: Obstacle,
    },
    /// A part of it fails.
    #[error("`{knob}`: {source}")]
    Part {
        /// Which.
        knob: Knob,
        /// Why.
        source: PartError,
    },
    /// Somebody else changed it meanwhile.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// What would be changed cannot be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What was changed cannot be written down.
    #[error(transparent)]
    Audit(#[from] StoreError),
}

impl KnobError {
    fn of<E: Into<PartError>>(knob: Knob) -> impl FnOnce(E) -> Self {
        move |error| Self::Part {
            knob,
            source: error.into(),
        }
    }
}

/// A part of a knob that holds neither what vtax found nor what it set: it is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part} is {present:?} now: vtax had found {from:?} and set it to {to}, so somebody else changed it, and it is left as it is"
)]
pub struct Foreign {
    /// Where.
    pub part: Part,
    /// What it holds.
    pub present: String,
    /// What vtax found.
    pub from: String,
    /// What vtax set it to.
    pub to: String,
}

/// A part of a knob beside what it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartDifference {
    /// Where.
    pub part: Part,
    /// What it holds.
    pub present: String,
    /// What it shall hold.
    pub wanted: String,
}

/// What `value` means for each part of a knob, and what these hold now. `measured`: the CPUs that are measured.
///
/// # Errors
/// The host lacks the knob, or the value does not suit it.
pub fn difference(
    host: &HostRoot,
    journal: Option<&Journal>,
    knob: Knob,
    value: &str,
    measured: &[u32],
) -> Result<Vec<PartDifference>, KnobError> {
    let obstructed = |obstacle| KnobError::Obstacle { knob, obstacle };
    let driver = knobs::of(knob);
    let parts = driver.parts(host).map_err(obstructed)?;
    let present: Vec<String> = parts
        .iter()
        .map(|part| part.read(host))
        .collect::<Result<_, _>>()
        .map_err(KnobError::of(knob))?;
    let originals: Vec<String> = parts
        .iter()
        .zip(&present)
        .map(|(part, present)| {
            let known = journal.and_then(|journal| journal.change(part));
            known.map_or(present, |change| &change.from).clone()
        })
        .collect();
    let wanted = driver
        .texts(&Wanted {
            host,
            parts: &parts,
            originals: &originals,
            value,
            measured,
        })
        .map_err(obstructed)?;
    Ok(parts
        .into_iter()
        .zip(present)
        .zip(wanted)
        .map(|((part, present), wanted)| PartDifference {
            part,
            present,
            wanted,
        })
        .collect())
}

fn foreign(change: &Change, present: &str) -> Foreign {
    Foreign {
        part: change.part.clone(),
        present: present.to_owned(),
        from: change.from.clone(),
        to: change.to.join(", then "),
    }
}

/// What was put back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Parts that hold again what vtax found: the part, what it held until now, what it holds.
    pub parts: Vec<(Part, String, String)>,
    /// What was left to whoever changed it.
    pub foreign: Vec<Foreign>,
    /// What could not be put back: it stays in the journal.
    pub failed: Vec<String>,
    /// The parts among that.
    pub held: Vec<Part>,
}

impl Restored {
    /// What a user must know of: what is not as it was.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let foreign = self.foreign.iter().map(ToString::to_string);
        foreign.chain(self.failed.iter().cloned())
    }
}

/// Who did what to the host, and when: the audit log.
#[derive(Debug)]
pub struct Audit {
    directory: PathBuf,
    /// Opened with the first event.
    log: Option<EventLog>,
    start_nanos: u64,
}

impl Audit {
    /// In the run directory, with times since `start_nanos` (CLOCK_MONOTONIC_RAW).
    #[must_use]
    pub fn of_run(dir: &Path, start_nanos: u64) -> Self {
        Self {
            directory: dir.to_owned(),
            log: None,
            start_nanos,
        }
    }

    /// Beside the journal, with times since the host booted, for what belongs to no run.
    #[must_use]
    pub fn of_host(journal: &Journal) -> Self {
        // Without a place for the journal nothing happens that could be written down.
        Self::of_run(journal.directory().unwrap_or(Path::new("")), 0)
    }

    fn append(&mut self, event: &Event) -> Result<(), StoreError> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(EventLog::open(&self.directory)?),
        };
        log.append(event)
    }

    fn event(&self, name: &str) -> Event {
        Event::now(now_raw_nanos().wrapping_sub(self.start_nanos), name)
            .with("uid", rustix::process::getuid().as_raw())
    }

    fn knob(
        &mut self,
        name: &str,
        knob: Knob,
        part: &Part,
        from: &str,
        to: &str,
    ) -> Result<(), StoreError> {
        let event = self.event(name);
        self.append(
            &event
                .with("knob", knob.name())
                .with("part", part.to_string())
                .with("from", from)
                .with("to", to),
        )
    }
}

/// A host that vtax may set, and puts back.
#[derive(Debug)]
pub struct Prepared {
    host: HostRoot,
    journal: Journal,
    audit: Audit,
    /// Nothing is to be done when it is dropped.
    done: bool,
}

impl Prepared {
    /// The host with what the journal knows of it.
    #[must_use]
    pub fn new(host: HostRoot, journal: Journal, audit: Audit) -> Self {
        Self {
            host,
            journal,
            audit,
            done: false,
        }
    }

    /// What is not as vtax found it, in the order in which it was first changed.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        self.journal.changes()
    }

    /// Sets the knobs that are wanted, and puts all others back. `measured`: the CPUs that are measured meanwhile.
    ///
    /// # Errors
    /// [`KnobError`]; what was set until then is put back at the end like all else.
    pub fn set(&mut self, wanted: &HostSettings, measured: &[u32]) -> Result<(), KnobError> {
        self.done = false;
        let others: Vec<Change> = self
            .journal
            .changes()
            .iter()
            .rev()
            .filter(|change| !wanted.contains_key(&change.knob))
            .cloned()
            .collect();
        for change in others {
            self.put_back(&change)?;
        }
        wanted
            .iter()
            .try_for_each(|(&knob, value)| self.set_one(knob, value, measured))
    }

    fn set_one(&mut self, knob: Knob, value: &str, measured: &[u32]) -> Result<(), KnobError> {
        let driver = knobs::of(knob);
        let parts = difference(&self.host, Some(&self.journal), knob, value, measured)?;
        for PartDifference { part, present, .. } in &parts {
            if let Some(known) = self.journal.change(part)
                && !known.explains(present)
            {
                return Err(foreign(known, present).into());
            }
        }
        let differing: Vec<_> = parts
            .into_iter()
            .filter(|part| part.present != part.wanted)
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        if !driver.parts_may_refuse() {
            for PartDifference { part, .. } in &differing {
                if let Some(obstacle) = part.obstacle(&self.host, driver.elsewise()) {
                    return Err(KnobError::Obstacle { knob, obstacle });
                }
            }
        }
        for part in driver.carried(&self.host) {
            let present = part.read(&self.host).map_err(KnobError::of(knob))?;
            self.journal.changing(knob, &part, &present, None)?;
        }
        for PartDifference {
            part,
            present,
            wanted: text,
        } in differing
        {
            self.journal.changing(knob, &part, &present, Some(&text))?;
            match self.write(knob, &part, &text) {
                Ok(()) => self
                    .audit
                    .knob("knob-applied", knob, &part, &present, &text)?,
                Err(PartError::Write { source, .. })
                    if driver.parts_may_refuse()
                        && part.read(&self.host).is_ok_and(|now| now == present) =>
                {
                    let why = format!("{present} ({source})");
                    self.audit.knob("knob-refused", knob, &part, &text, &why)?;
                    self.journal.restored(&part)?;
                }
                Err(error) => {
                    if let PartError::Adjusted { got, .. } = &error {
                        // What the kernel made of it is vtax's doing too, and serves nobody: it may be most of the memory.
                        self.journal.changing(knob, &part, &present, Some(got))?;
                        if let Some(change) = self.journal.change(&part).cloned() {
                            self.put_back(&change)?;
                        }
                    }
                    return Err(KnobError::of(knob)(error));
                }
            }
        }
        Ok(())
    }

    fn write(&self, knob: Knob, part: &Part, text: &str) -> Result<(), PartError> {
        let changes = self.journal.changes().iter();
        let originals = changes.map(|change| (change.part.clone(), change.from.clone()));
        knobs::of(knob).write(&self.host, part, text, &originals.collect())
    }

    /// Gives a part back what it held.
    fn put_back(&mut self, change: &Change) -> Result<Option<(Part, String, String)>, KnobError> {
        let Change {
            knob, part, from, ..
        } = change;
        // An interrupt or a CPU that has gone has nothing to be put back.
        let mut done = None;
        if part.exists(&self.host) {
            let present = match part.read(&self.host) {
                // A module that vtax was about to load anew when it was killed.
                Err(ReadError::Absent(_)) => "nothing".to_owned(),
                read => {
                    let present = read.map_err(KnobError::of(*knob))?;
                    if !change.explains(&present) {
                        return Err(foreign(change, &present).into());
                    }
                    present
                }
            };
            if present != *from {
                self.write(*knob, part, from)
                    .map_err(KnobError::of(*knob))?;
                self.audit
                    .knob("knob-restored", *knob, part, &present, from)?;
                done = Some((part.clone(), present, from.clone()));
            }
        }
        self.journal.restored(part)?;
        Ok(done)
    }

    /// Puts everything back, in the reverse order in which it was changed.
    pub fn restore(&mut self) -> Restored {
        self.restore_beneath(&[])
    }

    /// The same, but for the parts in `held`: they still have what was set after this journal's time, and that must go
    /// first, or it would be taken for somebody else's.
    pub fn restore_beneath(&mut self, held: &[Part]) -> Restored {
        let mut restored = Restored::default();
        self.done = true;
        if self.journal.is_empty() && !self.journal.exists() {
            return restored;
        }
        for change in self.journal.changes().to_vec().into_iter().rev() {
            if held.contains(&change.part) {
                let why = format!("{} waits for what was set after it", change.part);
                restored.failed.push(why);
                restored.held.push(change.part);
                continue;
            }
            match self.put_back(&change) {
                Ok(done) => restored.parts.extend(done),
                Err(KnobError::Foreign(foreign)) => {
                    let dropped = self
                        .audit
                        .knob(
                            "knob-left",
                            change.knob,
                            &change.part,
                            &foreign.present,
                            &foreign.present,
                        )
                        .map_err(KnobError::from)
                        .and_then(|()| Ok(self.journal.restored(&change.part)?));
                    restored
                        .failed
                        .extend(dropped.err().map(|error| error.to_string()));
                    restored.foreign.push(foreign);
                }
                Err(error) => {
                    restored.failed.push(error.to_string());
                    restored.held.push(change.part);
                }
            }
        }
        if self.journal.is_empty()
            && let Err(error) = self.journal.close()
        {
            restored.failed.push(error.to_string());
        }
        restored
    }

    /// Leaves the host as it is now; the journal stays, for `vtax host restore`.
    pub fn keep(mut self) {
        self.done = true;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for trouble in self.restore().troubles() {
            // A terminal that has gone takes nothing, and it may be a panic already that has led here.
            let _ = writeln!(std::io::stderr(), "vtax: {trouble}");
        }
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
