package replicate

import (
	"errors"
	"fmt"

	"repld/wal"
)

var (
	// ErrNotConnected is returned by Mesh.Open when there is no session with the peer right now.
	ErrNotConnected = errors.New("no session with this peer")
	// ErrUnknownPeer is returned for a node name that is not in the peer list.
	ErrUnknownPeer = errors.New("not a known peer")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
	// ErrProtocol is wrapped by every error that a malformed, oversized or unexpected message causes.
	ErrProtocol = errors.New("protocol violation")
	// ErrRefused is matched by every *RefusedError and *HandshakeError.
	ErrRefused = errors.New("refused by peer")
	// ErrStale is matched by every *StaleEpochError.
	ErrStale = errors.New("epoch is stale")
	// ErrStopped is why a stream ends when its own side was told to stop serving.
	ErrStopped = errors.New("stopped serving")
	// ErrChangePending is returned by CommitRule.SetRule while an earlier change is not settled.
	ErrChangePending = errors.New("a change of the sync set is pending")
)

// StaleEpochError says that the other side of a stream lives in an older epoch than ours, or we in an older one than
// it does: Epoch and Holder name the newer one (R3, R4).
type StaleEpochError struct {
	Epoch  wal.Epoch // the newer epoch
	Holder string    // its holder, "" if not known
	Ours   bool      // the stale side is ourselves
}

// Error names the newer epoch and its holder.
func (e *StaleEpochError) Error() string {
	who := "peer"
	if e.Ours {
		who = "this node"
	}
	return fmt.Sprintf("epoch of %s is stale: epoch %d is held by %q", who, e.Epoch, e.Holder)
}

// Is matches ErrStale.
func (e *StaleEpochError) Is(target error) bool { return target == ErrStale }

// RefusedError says why a peer does not serve a log stream.
type RefusedError struct {
	Peer    string
	Code    string // one of the Code constants
	Message string
}

// Error names the peer, the code and the peer's words.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refused: %s: %s", e.Peer, e.Code, e.Message)
}

// Is matches ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Codes of a refusal on a log stream.
const (
	CodeStale      = "stale-epoch"  // the refused side lives in an older epoch
	CodeNotServing = "not-serving"  // MayServe said no
	CodeGroup      = "wrong-group"  // the stream was opened for another group
	CodeNode       = "wrong-node"   // the name in hello is not the session's
	CodeSnapshot   = "no-snapshot"  // a snapshot is needed and cannot be had
	CodeProtocol   = "protocol"     // malformed or unexpected message
	CodeInternal   = "internal"     // the other side failed; its log tells why
	CodeStopped    = "stopped"      // the serving side stops
	CodeUnfenced   = "not-fenced"   // fast-forward from a node that has not seen the candidate's epoch
	CodeUnrelated  = "wrong-sender" // the sender claims an epoch that it does not hold
)
