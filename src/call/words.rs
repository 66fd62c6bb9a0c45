//! What a call hears and says: [`Event`]s of its trunk, [`Command`]s of its users, [`Action`]s for its owner.

use super::reason::EndReason;
use super::record::Status;

/// The trunk's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The INVITE has this Call-ID.
    Placed {
        sip_call_id: String,
    },
    /// 100: somebody works on it.
    Trying,
    /// Another provisional answer, 101..=199.
    Progress {
        code: u16,
    },
    Answered,
    /// Final answer, 300..=699; `q850` is its own Reason header's.
    Rejected {
        code: u16,
        reason: String,
        q850: Option<u16>,
    },
    /// Nobody could be asked; `reason` says why not.
    Unreachable {
        reason: String,
    },
    Bye {
        q850: Option<u16>,
    },
    /// Of a call that came in: our 200 was acknowledged, or never was (RFC 3261 §13.3.1.4).
    Acked,
    Unacked,
    /// Of a call that came in: the caller gave up before the answer (CANCEL). `code`: of the answer elsewhere that she names as her reason
    /// (RFC 3326 §3.1), 200..=699.
    Cancelled {
        q850: Option<u16>,
        code: Option<u16>,
    },
    /// No refresh of the session came through (RFC 4028 §10).
    SessionExpired,
    /// No RTP for as long as is allowed, and the call is not on hold.
    MediaTimeout,
    /// 202 to our REFER: what becomes of it follows.
    TransferAccepted,
    /// Final answer to it, 300..=699.
    TransferRefused {
        code: u16,
    },
    /// A NOTIFY's final status (RFC 3515 §2.4.5), 200..=699.
    TransferOutcome {
        code: u16,
    },
    /// Of the second leg with this number.
    SecondLeg {
        leg: usize,
        event: LegEvent,
    },
}

/// What happens to the second leg of a call that is transferred by a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    Placed {
        sip_call_id: String,
    },
    Ringing,
    Answered,
    /// Not answered: refused, given up or out of reach.
    Rejected {
        code: u16,
        q850: Option<u16>,
    },
    Bye {
        q850: Option<u16>,
    },
}

/// The users' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Hangup,
    Transfer {
        to: String,
    },
    /// The record names another agent; who speaks is not the brain's business.
    Agent {
        id: String,
    },
    Shutdown,
    /// Of a call that came in.
    Answer,
    Reject(Reject),
}

/// How a call that came in is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    Busy,
    Declined,
    Unavailable,
    NotFound,
    Forbidden,
}

impl Reject {
    pub const ALL: [Reject; 5] = [Self::Busy, Self::Declined, Self::Unavailable, Self::NotFound, Self::Forbidden];

    /// As the API names it; the end reason is the same.
    pub fn as_str(self) -> &'static str {
        self.reason().as_str()
    }

    /// RFC 3261 §21.4, §21.6.
    pub fn sip_code(self) -> u16 {
        match self {
            Self::Busy => 486,
            Self::Declined => 603,
            Self::Unavailable => 480,
            Self::NotFound => 404,
            Self::Forbidden => 403,
        }
    }

    pub(super) fn reason(self) -> EndReason {
        match self {
            Self::Busy => EndReason::Busy,
            Self::Declined => EndReason::Declined,
            Self::Unavailable => EndReason::Unavailable,
            Self::NotFound => EndReason::NotFound,
            Self::Forbidden => EndReason::Forbidden,
        }
    }
}

/// Why a command can't be followed now. Each is a conflict (409) with a remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the call has ended")]
    Over,
    #[error("the call is {}: transfer it once it is in_progress", .0.as_str())]
    NotAnswered(Status),
    #[error("a transfer to another number is pending: wait for its outcome")]
    OtherTransfer,
    #[error("the call is bridged to another number: hang up, or let it go on")]
    Bridged,
    #[error("the call goes out: only calls that come in are answered or rejected")]
    Outbound,
    #[error("the call is answered already")]
    Answered,
}

/// How a transfer came out, as far as the API waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The far end or the second leg agreed; what becomes of it stands in the record.
    Accepted,
    /// The far end refused with this SIP code; the call goes on.
    Refused { code: u16 },
    /// Nothing came back in time; the call goes on, and a late answer still counts.
    Undecided,
    /// The call ended first.
    Over,
}

/// What the owner has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Dial,
    Cancel,
    Bye,
    /// Of a call that came in: 180, the 200, a final answer.
    Ring,
    Answer,
    Reject {
        code: u16,
    },
    /// REFER.
    Transfer {
        to: String,
    },
    /// The second leg of a transfer: dialled, given up, hung up, joined with the first.
    DialLeg {
        leg: usize,
        to: String,
    },
    CancelLeg {
        leg: usize,
    },
    ByeLeg {
        leg: usize,
    },
    Bridge {
        leg: usize,
    },
    /// The agent speaks no more, its place stays; it speaks again.
    PauseAgent,
    ResumeAgent,
    StartMedia,
    /// Ends both tracks with END_OF_TRACK.
    EndMedia,
    /// Keep [`Call::record`](super::Call::record) as it is now.
    Save,
    /// For everybody who waits for the pending transfer.
    Settled(Settled),
}
