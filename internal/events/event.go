package events

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// Kind says what sort of thing happened.
type Kind string

// Kinds of events.
const (
	Start     Kind = "start"         // the node was opened, and how its last life ended
	Stop      Kind = "stop"          // the node closes, and why
	Role      Kind = "role"          // this node's role changed
	Epoch     Kind = "epoch"         // a higher epoch was promised to somebody
	Suspicion Kind = "suspicion"     // a node is suspected, with the evidence; or is not any more
	Vote      Kind = "vote"          // this node supported or refused a candidate
	Promotion Kind = "promotion"     // a promotion or switchover ended, well or not
	SyncSet   Kind = "sync-set"      // the set of standbys that count for a commit changed
	Peer      Kind = "peer"          // a session with a peer came up or went away
	Repair    Kind = "repair"        // damage was found or repaired
	Diverged  Kind = "diverged"      // a suffix that the history does not contain was set aside
	Refused   Kind = "refused"       // something was refused for safety: a peer, a request
	Alarm     Kind = "alarm"         // a condition that a person should know of began
	Cleared   Kind = "alarm-cleared" // it is over
	Snapshot  Kind = "snapshot"      // a snapshot was taken, sent or installed
	Audit     Kind = "audit"         // a person changed something through the admin socket
	Hook      Kind = "hook"          // a hook ended, with its output
	Security  Kind = "security"      // certificates, passwords, clients that were refused
	Verified  Kind = "verified"      // the copies were compared, or found to differ
	Drill     Kind = "drill"         // a fork of this node was promoted to see how long that takes
	Dropped   Kind = "dropped"       // events before this one are missing
)

// Event is one thing that happened.
type Event struct {
	Seq   uint64         `json:"seq"` // from 1, rising over restarts; a gap is an event that was dropped or damaged
	Time  time.Time      `json:"time"`
	Kind  Kind           `json:"kind"`
	Msg   string         `json:"msg"`
	Attrs map[string]any `json:"attrs,omitempty"`
}

// maxText bounds each text of an event: a peer's words and a hook's output end up here too.
const maxText = 2 << 10

func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "…"
	}
	return s
}

// maxAttrs bounds the attributes of one event.
const maxAttrs = 64

// add puts an attribute into into; groups become dotted names.
func add(into map[string]any, prefix string, a slog.Attr) {
	v := a.Value.Resolve() // a secret hides itself here
	if a.Equal(slog.Attr{}) || len(into) >= maxAttrs {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			add(into, prefix, inner)
		}
		return
	}
	into[prefix+a.Key] = plain(v)
}

// plain is a value as JSON should show it: numbers and booleans as they are, all else as text.
func plain(v slog.Value) any {
	switch v.Kind() {
	case slog.KindInt64:
		return v.Int64()
	case slog.KindUint64:
		return v.Uint64()
	case slog.KindFloat64:
		if _, err := json.Marshal(v.Float64()); err != nil { // not a number, infinite
			return v.String()
		}
		return v.Float64()
	case slog.KindBool:
		return v.Bool()
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			return clip(err.Error())
		}
		return clip(fmt.Sprint(v.Any()))
	}
	return clip(v.String())
}

// Text returns an attribute as text, "" if it is not there.
func (e Event) Text(name string) string {
	v, ok := e.Attrs[name]
	if !ok {
		return ""
	}
	if f, ok := v.(float64); ok { // as numbers come out of JSON: whole ones without an exponent
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}
