package events

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DefaultMaxBytes is the size of each of the two files.
const DefaultMaxBytes = 2 << 20

// Options configure a Log. The zero value of a field means its default.
type Options struct {
	FS       vfs.FS           // required
	Dir      string           // an existing folder of the journal's own; required
	MaxBytes int64            // of each of two files. Default DefaultMaxBytes
	Queue    int              // events that may wait to be written. Default 1024
	Keep     int              // newest events kept in memory for those who follow. Default 4096
	Now      func() time.Time // default time.Now
	// OnTrouble is told, by Run's goroutine, of each change: an error that keeps the journal from being written, nil once it is written again. May be nil.
	OnTrouble func(error)
	Logger    *slog.Logger // default: discards
}

// EnsureDefaults fills in the fields that are zero.
func (o *Options) EnsureDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Queue == 0 {
		o.Queue = 1024
	}
	if o.Keep == 0 {
		o.Keep = 4096
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnTrouble == nil {
		o.OnTrouble = func(error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports the first field that cannot be worked with.
func (o *Options) Validate() error {
	if o.FS == nil || o.Dir == "" {
		return fmt.Errorf("event journal options: file system and directory are required")
	}
	if o.MaxBytes < 4<<10 || o.Queue < 1 || o.Keep < 1 {
		return fmt.Errorf("event journal options: %d bytes, queue %d and keep %d must be at least 4096, 1 and 1", o.MaxBytes, o.Queue, o.Keep)
	}
	return nil
}

// Log is a node's journal. A nil *Log takes events and forgets them.
type Log struct {
	o Options
	j journal // owned by Run

	mu struct { // never held during I/O
		sync.Mutex
		next    uint64  // number of the next event
		queue   []Event // not yet written
		recent  []Event // the newest, written or not
		lost    uint64  // dropped since the last one that was queued
		dropped uint64  // in all
		changed chan struct{}
		over    bool // Run has ended
	}
	wake chan struct{} // capacity 1: something is queued
}

// Open reads what is there. Unreadable or damaged files are logged and never an error: the journal of a node must not keep it from starting.
func Open(o Options) (*Log, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	l := &Log{o: o, j: journal{fs: o.FS, dir: o.Dir, limit: o.MaxBytes}, wake: make(chan struct{}, 1)}
	l.mu.changed = make(chan struct{})
	var all []Event
	var damaged int
	for _, name := range []string{nameOld, nameNow} {
		content, err := l.j.read(name)
		if err != nil {
			o.Logger.Warn("event journal not read", "error", err)
		}
		some, bad := parse(content)
		all, damaged = append(all, some...), damaged+bad
		if name == nameNow {
			l.j.open(content)
		}
	}
	if damaged > 0 {
		o.Logger.Warn("event journal has damaged lines, they are skipped", "lines", damaged)
	}
	all = ordered(all)
	l.mu.next = 1
	if n := len(all); n > 0 {
		l.mu.next = all[n-1].Seq + 1
	}
	l.mu.recent = all[max(0, len(all)-o.Keep):]
	return l, nil
}

// Record notes that something happened now. It does not wait: the event is written by Run, or dropped and counted if too many wait already. The message
// is constant and lower-case; what varies is an attribute, as in a log.
func (l *Log) Record(kind Kind, msg string, attrs ...slog.Attr) {
	if l == nil {
		return
	}
	e := Event{Time: l.o.Now().UTC(), Kind: kind, Msg: clip(msg)}
	if len(attrs) > 0 {
		e.Attrs = make(map[string]any, len(attrs))
		for _, a := range attrs {
			add(e.Attrs, "", a)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.mu.next
	l.mu.next++
	l.keep(e)
	if len(l.mu.queue) >= l.o.Queue || l.mu.over {
		l.mu.lost++
		l.mu.dropped++
		return
	}
	l.mu.queue = append(l.mu.queue, e)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// keep remembers e for those who follow, and wakes them. The lock is held.
func (l *Log) keep(e Event) {
	if len(l.mu.recent) >= 2*l.o.Keep { // trimmed rarely, so that it costs little
		l.mu.recent = append([]Event(nil), l.mu.recent[len(l.mu.recent)-l.o.Keep:]...)
	}
	l.mu.recent = append(l.mu.recent, e)
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
}

// Since returns the events in memory with a higher number than seq, oldest first, at most limit of the newest (0: all), and a channel that is closed when
// there are more. The events are shared: do not change them.
func (l *Log) Since(seq uint64, limit int) ([]Event, <-chan struct{}) {
	if l == nil {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Event
	for i := len(l.mu.recent) - 1; i >= 0 && l.mu.recent[i].Seq > seq && (limit == 0 || len(out) < limit); i-- {
		out = append(out, l.mu.recent[i])
	}
	for i, k := 0, len(out)-1; i < k; i, k = i+1, k-1 {
		out[i], out[k] = out[k], out[i]
	}
	return out, l.mu.changed
}

// Last is the number of the newest event, 0 if there is none.
func (l *Log) Last() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.next - 1
}

// Lost is how many events were not written since Open.
func (l *Log) Lost() uint64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.dropped
}

// Run writes what is recorded until ctx ends, then what is left, and closes the file.
func (l *Log) Run(ctx context.Context) error {
	var trouble error
	for {
		err := l.flush()
		switch {
		case err != nil && trouble == nil:
			l.o.Logger.Error("event journal cannot be written, events are kept in memory only", "error", err)
			l.o.OnTrouble(err)
		case err == nil && trouble != nil:
			l.o.Logger.Info("event journal is written again")
			l.o.OnTrouble(nil)
		}
		trouble = err
		select {
		case <-ctx.Done():
			return l.end()
		case <-l.wake:
		}
	}
}

// end writes the last events. A journal that cannot be written or closed does not make the end of a node unclean.
func (l *Log) end() error {
	err := l.flush()
	if cerr := l.j.close(); err == nil {
		err = cerr
	}
	if err != nil {
		l.o.Logger.Warn("event journal not closed cleanly", "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.over = true
	return nil
}

// flush writes all that is queued. What could not be written is counted as dropped.
func (l *Log) flush() error {
	batch := l.take()
	if len(batch) == 0 {
		return nil
	}
	var lines []byte
	for _, e := range batch {
		var err error
		if lines, err = appendLine(lines, e); err != nil {
			return fmt.Errorf("encode event: %w", err)
		}
	}
	if err := l.j.write(lines); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.lost += uint64(len(batch))
		l.mu.dropped += uint64(len(batch))
		return err
	}
	return nil
}

// take empties the queue. If events were dropped before, it says so in front of what it returns.
func (l *Log) take() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.mu.queue
	l.mu.queue = nil
	if len(batch) > 0 && l.mu.lost > 0 {
		e := Event{Seq: l.mu.next, Time: l.o.Now().UTC(), Kind: Dropped, Msg: "events were not written", Attrs: map[string]any{"events": l.mu.lost}}
		l.mu.next++
		l.mu.lost = 0
		batch = append(batch, e)
		l.keep(e)
	}
	return batch
}
