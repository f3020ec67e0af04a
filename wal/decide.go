package wal

import "fmt"

// tail is what recovery saw at the place where the log seems to end.
type tail struct {
	Good         Position  // end of the last good frame
	Found        found     // what stands behind it; not foundFrame
	NeverWhole   bool      // proof that the write there was never complete, see neverWhole
	Later        *later    // a sound frame further on, if any
	KnownDurable LSN       // what other records say is durable
	Mark         *Position // clean-stop mark, if there is one
}

// action is what recovery does with the tail.
type action uint8

const (
	actionKeep   action = iota // the log ends here and nothing is missing
	actionCut                  // drop what is behind Good
	actionRefuse               // do not start: something durable is damaged or missing
)

func (a action) String() string { return [...]string{"keep", "cut", "refuse"}[a] }

// verdict is recovery's decision.
type verdict struct {
	Action action
	Doubt  bool   // cut: what is dropped may have been durable; ask the peers before voting (R8)
	Proof  string // refuse: why it cannot be a torn tail
}

// decide is rule R8. It knows nothing but the facts in t, so that every case can be tested by name.
func decide(t tail) verdict {
	if t.Mark != nil && t.Mark.LSN >= t.Good.LSN && *t.Mark != t.Good {
		return verdict{Action: actionRefuse, Proof: fmt.Sprintf("the clean-stop mark proves that the log was durable up to %v", *t.Mark)}
	}
	if t.KnownDurable > t.Good.LSN {
		return verdict{Action: actionRefuse, Proof: fmt.Sprintf("this node's own records prove that LSN %d was durable", t.KnownDurable)}
	}
	if t.Later != nil && !t.Later.SameWrite {
		return verdict{Action: actionRefuse, Proof: fmt.Sprintf("a good frame of LSN %d to %d follows in %s at offset %d, so this is no torn tail",
			t.Later.First, t.Later.Last, t.Later.File, t.Later.Offset)}
	}
	switch {
	case t.Found == foundZero && t.Later == nil:
		return verdict{Action: actionKeep}
	case t.Found == foundZero:
		// The first sectors of a write are missing and later ones are there: it was never complete.
		return verdict{Action: actionCut}
	case t.Mark != nil && *t.Mark == t.Good:
		// Stopped cleanly exactly here: nothing was ever written behind.
		return verdict{Action: actionCut}
	}
	return verdict{Action: actionCut, Doubt: !t.NeverWhole}
}
