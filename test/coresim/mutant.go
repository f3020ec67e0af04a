package coresim

// Mutant is one rule broken on purpose, to show that the checker sees it.
type Mutant string

// Mutants. Each breaks the model's side of a rule; the production machines stay as they are.
const (
	AckBeforeSync     Mutant = "standby acks before its sync"            // R1
	DurableBeforeSync Mutant = "active counts itself before its sync"    // R1
	AnswerOnLocalSync Mutant = "clients are answered at the local sync"  // R1
	UnsavedGrant      Mutant = "grant is answered and not persisted"     // R3
	LyingSync         Mutant = "sync of the epoch file does nothing"     // R3
	IgnoreEpoch       Mutant = "standby appends whatever the epoch"      // R4
	CommitOn          Mutant = "rule goes on after a higher epoch"       // R3
	CountNonVoter     Mutant = "non-voters say that they are voters"     // R11
	EarlyVoter        Mutant = "voter before it has caught up"           // R11
	ForgetTenures     Mutant = "tenures before the last are forgotten"   // R6
	NoFastForward     Mutant = "candidate keeps its own log"             // R5
	SettleUnrecorded  Mutant = "sync set in force before it is recorded" // R6
	ApplyUncommitted  Mutant = "standby applies what is durable"         // R7
	CutUnsaved        Mutant = "cut without saving"                      // R9
	AckAfterFailure   Mutant = "failed sync is taken for a success"      // R10
	KeepWipedAcks     Mutant = "acks of a lost disk still count"         // R11
	CountAllAcks      Mutant = "acks that do not count are counted"      // R11
	NoLease           Mutant = "reads without a lease"                   // R14
	NoOutlast         Mutant = "older leases are not waited for"         // R14
	ForgetPromise     Mutant = "promises are forgotten at the start"     // R14
	ResetIsProof      Mutant = "a reset connection is proof of a death"  // R14
	VoteForAll        Mutant = "voters support whoever asks"             // R14
)

// Mutants lists them all.
func Mutants() []Mutant {
	return []Mutant{AckBeforeSync, DurableBeforeSync, AnswerOnLocalSync, UnsavedGrant, LyingSync, IgnoreEpoch, CommitOn, CountNonVoter, EarlyVoter,
		ForgetTenures, NoFastForward, SettleUnrecorded, ApplyUncommitted, CutUnsaved, AckAfterFailure, KeepWipedAcks,
		CountAllAcks, NoLease, NoOutlast, ForgetPromise, ResetIsProof, VoteForAll}
}
