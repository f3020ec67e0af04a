package wal

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrCorrupt: bytes that were durable are damaged or missing. The error is a *CorruptError.
	ErrCorrupt = errors.New("log is damaged")
	// ErrForeign: a segment belongs to another cluster, group or incarnation, or to another place in the log.
	ErrForeign = errors.New("foreign segment")
	// ErrVersion: a format version that this build does not know.
	ErrVersion = errors.New("unknown format version")
	// ErrTooLarge: a record or frame above its limit.
	ErrTooLarge = errors.New("above the size limit")
	// ErrTrimmed: the wanted LSN lies before the log's start.
	ErrTrimmed = errors.New("no longer in the log")
	// ErrGap: a frame does not follow the log's end, or an LSN is not the end of a frame.
	ErrGap = errors.New("not contiguous")
	// ErrDiverged: the frame or reader belongs to another history than the log.
	ErrDiverged = errors.New("history differs")
	// ErrStaleEpoch: a frame or writer of a lower epoch than the log's end.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrClosed: the log, writer or reader was closed.
	ErrClosed = errors.New("closed")
	// ErrFailed: an earlier write or sync failed; nothing more is appended or acked until the log is opened anew (R10).
	ErrFailed = errors.New("log failed")
	// ErrWriterOpen: the call is not allowed while a Writer is open.
	ErrWriterOpen = errors.New("a writer is open")
)

// CorruptError says which bytes are wrong, what should have been there, and what to do. Offsets are in bytes.
type CorruptError struct {
	Kind     error    // ErrCorrupt, ErrForeign or ErrVersion; nil means ErrCorrupt
	File     string   // path of the segment or note
	Offset   int64    // where in File
	Expected string   // what should be there
	Found    string   // what is there
	Good     Position // end of the last intact frame before the damage
	Proof    string   // why this cannot be a torn, never acked tail; empty if that is plain
	Advice   string   // what a person can do
}

// Error implements error.
func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %s at offset %d: expected %s, found %s", e.Unwrap(), e.File, e.Offset, e.Expected, e.Found)
	if e.Proof != "" {
		b.WriteString("; " + e.Proof)
	}
	if e.Advice != "" {
		b.WriteString("; " + e.Advice)
	}
	return b.String()
}

// Unwrap returns the sentinel: ErrCorrupt, ErrForeign or ErrVersion.
func (e *CorruptError) Unwrap() error {
	if e.Kind == nil {
		return ErrCorrupt
	}
	return e.Kind
}

// reason is the text of an error that wraps ErrCorrupt or ErrVersion, without saying so again.
func reason(err error) string {
	s := strings.TrimPrefix(err.Error(), ErrCorrupt.Error()+": ")
	return strings.TrimPrefix(s, ErrVersion.Error()+": ")
}
