//! Whether an error that turned up while measuring means that this host lacks something, or that something failed: one
//! answer, wherever the error turns up.

use std::error::Error;

use vtax_reports::record::NotMeasured;

use crate::disks::DisksError;
use crate::experiments::ExperimentError;
use crate::guest::embedded::VmError;
use crate::guest::embedded::devices::DeviceError;
use crate::guest::ram::RamError;
use crate::host::affinity::AffinityError;
use crate::host::net::NetError;
use crate::host::prepared::KnobError;
use crate::host::root::ReadError;
use crate::host::scheduling::SchedulingError;
use crate::measure::BootError;
use crate::neighbours::CrowdError;
use crate::rig::RigError;

/// An error that knows on which side it stands.
pub trait Lack: Error {
    /// Whether the host lacks something, rather than that anything failed.
    fn is_lack(&self) -> bool;

    /// For the record.
    fn not_measured(&self) -> NotMeasured {
        let text = self.to_string();
        if self.is_lack() {
            NotMeasured::NotTestable(text)
        } else {
            NotMeasured::Failed(text)
        }
    }
}

/// Errors by which a host says that it has not what was asked for.
macro_rules! always {
    ($($error:ty),+) => {
        $(impl Lack for $error {
            fn is_lack(&self) -> bool {
                true
            }
        })+
    };
}

always!(
    AffinityError,
    SchedulingError,
    NetError,
    DisksError,
    ReadError
);

impl Lack for RamError {
    fn is_lack(&self) -> bool {
        !matches!(self, Self::Bounds(_))
    }
}

impl Lack for VmError {
    fn is_lack(&self) -> bool {
        matches!(self, Self::Ram(error) if error.is_lack())
    }
}

impl Lack for DeviceError {
    fn is_lack(&self) -> bool {
        matches!(self, Self::Vhost(_))
    }
}

impl Lack for KnobError {
    fn is_lack(&self) -> bool {
        !matches!(self, Self::Journal(_) | Self::Audit(_))
    }
}

impl Lack for CrowdError {
    fn is_lack(&self) -> bool {
        Self::is_lack(self)
    }
}

impl Lack for RigError {
    fn is_lack(&self) -> bool {
        match self {
            Self::Kvm(error) => error.is_lack(),
            Self::Ram(error) => error.is_lack(),
            Self::Affinity(error) => error.is_lack(),
            _ => false,
        }
    }
}

impl Lack for BootError {
    fn is_lack(&self) -> bool {
        match self {
            Self::Ram(error) => error.is_lack(),
            Self::Vm(error) => error.is_lack(),
            Self::Affinity(error) => error.is_lack(),
            Self::Scheduling(error) => error.is_lack(),
            Self::Disk(error) => error.is_lack(),
            Self::Network(error) => error.is_lack(),
            Self::Device(error) => error.is_lack(),
            Self::Neighbour(error) => error.is_lack(),
            Self::OtherTsc | Self::Ksm(_) | Self::NothingMerged => true,
            _ => false,
        }
    }
}

impl Lack for ExperimentError {
    fn is_lack(&self) -> bool {
        match self {
            Self::Ram(error) => error.is_lack(),
            Self::Vm(error) => error.is_lack(),
            Self::Rig(error) => error.is_lack(),
            Self::Affinity(error) => error.is_lack(),
            Self::Device(error) => error.is_lack(),
            Self::Crowd(error) => error.is_lack(),
            Self::Knob(error) => error.is_lack(),
            Self::Read(error) => error.is_lack(),
            Self::NotTestable(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::affinity::Pinned;

    #[test]
    fn a_cell_and_an_experiment_judge_the_same_error_alike() {
        // No CPU set reaches as far.
        let refused = || Pinned::to(&[1 << 20]).unwrap_err();
        let of_a_cell = BootError::from(refused()).not_measured();
        let of_an_experiment = ExperimentError::from(refused()).not_measured();
        assert!(matches!(of_a_cell, NotMeasured::NotTestable(_)));
        assert_eq!(of_a_cell, of_an_experiment);

        let no_group = || CrowdError::Lacking {
            name: "one".to_owned(),
            reason: "no memory".to_owned(),
        };
        assert_eq!(
            BootError::from(no_group()).not_measured(),
            ExperimentError::from(no_group()).not_measured()
        );
        let failed = || VmError::Kvm {
            what: "KVM_RUN",
            source: kvm_ioctls::Error::new(libc::EFAULT),
        };
        assert_eq!(
            BootError::from(failed()).not_measured(),
            ExperimentError::from(failed()).not_measured()
        );
    }
}
