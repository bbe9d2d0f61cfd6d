//! What vtax has changed on this host and not put back: what a killed run left, and what `vtax host apply` set.

use std::fmt::Write as _;
use std::path::Path;

use super::journal::{Change, Journal, JournalError, Origin, directories, own_directory};
use super::knobs::Part;
use super::prepared::{Audit, Prepared, Restored};
use super::root::HostRoot;

/// More places of one knob than this are counted, not named.
const NAMED: usize = 2;

/// A journal that there is something in, and whose writer is gone.
#[derive(Debug)]
pub struct Leftover {
    /// Who wrote it.
    pub origin: Origin,
    /// Whether this user may put it back.
    pub ours: bool,
    /// Whether the host was started anew since, so that nothing of it is left.
    pub outlived: bool,
    /// What it says.
    pub journal: Journal,
}

/// All of them, in the order in which they are to be put back; an error in the place of one that cannot be read.
#[must_use]
pub fn find(host: &HostRoot) -> Vec<Result<Leftover, JournalError>> {
    let places = Origin::BOTH
        .into_iter()
        .flat_map(|origin| directories().into_iter().map(move |place| (origin, place)));
    places
        .filter_map(|(origin, directory)| find_in(host, origin, &directory).transpose())
        .collect()
}

fn find_in(
    host: &HostRoot,
    origin: Origin,
    directory: &Path,
) -> Result<Option<Leftover>, JournalError> {
    let journal = Journal::at(host, directory, origin)?;
    let at_work =
        origin == Origin::Run && journal.begun().is_some_and(|begun| begun.process.runs());
    if !journal.exists() || at_work {
        return Ok(None);
    }
    Ok(Some(Leftover {
        origin,
        ours: own_directory().as_deref() == Some(directory),
        outlived: journal.is_of_earlier_boot()?,
        journal,
    }))
}

impl Leftover {
    /// Puts it back, but for the parts in `held` ([`Prepared::restore_beneath`]), and writes to the audit log beside the
    /// journal.
    ///
    /// # Errors
    /// The journal cannot be removed.
    pub fn put_back(mut self, host: &HostRoot, held: &[Part]) -> Result<Restored, JournalError> {
        if self.outlived {
            self.journal.close()?;
            return Ok(Restored::default());
        }
        let audit = Audit::of_host(&self.journal);
        Ok(Prepared::new(host.clone(), self.journal, audit).restore_beneath(held))
    }

    /// What it is, in a sentence that has no end yet.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = match self.origin {
            Origin::Run => "a vtax that was killed".to_owned(),
            Origin::Applied => "`vtax host apply`".to_owned(),
        };
        if let Some(begun) = self.journal.begun() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                " ({}, process {} of user {}, {})",
                begun.command, begun.process.pid, begun.uid, begun.time
            );
        }
        text += match (self.outlived, self.origin) {
            (true, _) => " had changed the host before it was started anew, which undid that",
            (false, Origin::Run) => " left the host changed: ",
            (false, Origin::Applied) => " has set the host: ",
        };
        if !self.outlived {
            text += &changes_text(self.journal.changes());
        }
        text
    }
}

/// `thp was madvise, irqs-away in 20 places`.
fn changes_text(changes: &[Change]) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut rest = changes;
    while let Some(first) = rest.first() {
        let alike = rest
            .iter()
            .take_while(|change| change.knob == first.knob)
            .count();
        let (these, others) = rest.split_at(alike);
        rest = others;
        if alike > NAMED {
            texts.push(format!("{} in {alike} places", first.knob));
        } else {
            texts.extend(these.iter().map(|change| match change.to[..] {
                // The kernel sets it anew along with another, which tells enough.
                [] => change.part.to_string(),
                _ => format!("{} held {:?}", change.part, change.from),
            }));
        }
    }
    texts.join(", ")
}
