//! What NVIDIA's critical errors ("Xids") mean, and what they ask for.
//!
//! The numbers, the words and the classes follow NVIDIA's catalogue,
//! <https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>, by its column "immediate
//! action" (as of 2025-10); rows that it calls unused are left out. Where the catalogue leads into a
//! procedure for people, the class is that of the procedure's usual end, and the row says so.

use serde::{Deserialize, Serialize};

/// What an Xid asks for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum XidClass {
    /// Nothing at once: it is good to know.
    Noted,
    /// A program's own mistake or end: the program is to be started again, the GPU is well.
    Application,
    /// A link to another GPU or to the processor is in trouble.
    Link,
    /// The GPU needs a reset.
    Reset,
    /// The machine needs a reboot.
    Reboot,
    /// Something is to be seen to by hand: a cable, a plug.
    Hands,
    /// The catalogue, as it is known here, does not have it.
    Unknown,
}

impl XidClass {
    /// Whether the GPU counts as degraded after it, until it is seen to be well again.
    #[must_use]
    pub fn degrades(self) -> bool {
        matches!(self, Self::Link | Self::Reset | Self::Reboot | Self::Hands)
    }

    /// What to do, in a few words.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Noted => "nothing has to be done at once",
            Self::Application => "start the program again; the GPU is well",
            Self::Link => "look at the links; reset the GPUs that they join",
            Self::Reset => "reset the GPU",
            Self::Reboot => "reboot the machine",
            Self::Hands => "look at the power cables and the seat of the board",
            Self::Unknown => "look it up in NVIDIA's catalogue of Xids",
        }
    }
}

/// What an Xid means, in NVIDIA's words, and what it asks for.
#[must_use]
pub fn meaning(xid: u64) -> (&'static str, XidClass) {
    use XidClass::{Application, Hands, Link, Noted, Reboot, Reset, Unknown};
    match xid {
        8 => ("GPU stopped processing", Application),
        11 | 32 => ("invalid or corrupted push buffer stream", Application),
        13 => ("graphics engine exception", Application),
        25 => ("invalid or illegal push buffer stream", Application),
        31 => ("GPU memory page fault", Application),
        37 | 38 => ("driver firmware error", Noted),
        39..=41 | 70..=72 | 75..=77 | 85 | 126..=135 => ("copy engine exception", Application),
        43 => ("GPU stopped processing", Noted),
        44 => ("graphics engine fault during context switch", Noted),
        // A procedure: it follows another Xid, or a program's end.
        45 => ("preemptive cleanup, due to previous errors", Noted),
        46 => ("GPU stopped processing", Reset),
        // A procedure: data in memory were lost.
        48 => ("double bit ECC error", Reset),
        54 => ("auxiliary power is not connected to the GPU board", Hands),
        60 => ("video processor exception", Application),
        62 => ("internal micro-controller halt", Reset),
        63 => ("GPU memory remapping event", Noted),
        64 => ("GPU memory remapping failure", Reset),
        66 | 67 => ("illegal access by driver", Noted),
        68 | 83 | 84 | 88 | 89 | 96..=98 => ("video decoder exception", Application),
        69 => ("graphics engine class error", Application),
        // Procedures for links.
        74 | 144..=150 => ("NVLink error", Link),
        78 => ("vGPU start error", Noted),
        79 => ("GPU has fallen off the bus", Reboot),
        80 => ("corrupted data sent to GPU", Application),
        82 | 99..=105 => ("JPEG decoder error", Application),
        86 | 139 => ("optical flow accelerator exception", Application),
        92 => ("high single-bit ECC error rate", Noted),
        93 => ("non-fatal violation of provisioned InfoROM wear limit", Noted),
        94 => ("contained memory error", Application),
        95 => ("uncontained memory error", Reset),
        106 | 107 => ("SMBPBI test message", Noted),
        109 => ("context switch timeout error", Reset),
        110 => ("security fault error", Reset),
        119 => ("GSP RPC timeout", Reset),
        120 => ("GSP error", Reset),
        121 => ("C2C link error", Noted),
        136 => ("link training failed", Reset),
        137 => ("NVLink privilege error", Noted),
        140 => ("ECC unrecovered error", Reset),
        141 => ("CUDA fast path error", Noted),
        143 => ("GPU initialization error", Reset),
        // It says that the driver's own advice has changed, which every look reads.
        154 => ("GPU recovery action changed", Noted),
        155 => ("NVLink software defined error", Reset),
        156 => ("resource retirement event", Reset),
        157 => ("resource retirement failure", Noted),
        158 => ("GPU fatal timeout", Reset),
        160 => ("channel retirement event", Noted),
        161 => ("channel retirement failure", Noted),
        _ => ("not in the catalogue known here", Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_mistake_is_no_trouble_of_the_gpu() {
        for xid in [13, 31, 43, 45, 63, 94, 154, 9999] {
            assert!(!meaning(xid).1.degrades(), "{xid}");
        }
        for (xid, class) in [
            (48, XidClass::Reset),
            (54, XidClass::Hands),
            (74, XidClass::Link),
            (79, XidClass::Reboot),
            (95, XidClass::Reset),
            (119, XidClass::Reset),
        ] {
            assert_eq!(meaning(xid).1, class, "{xid}");
            assert!(class.degrades());
        }
    }
}
