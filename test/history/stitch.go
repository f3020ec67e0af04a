package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"sort"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/kv"
	"repld/wal"
)

// Record is one record of a log, of the default group.
type Record struct {
	LSN     wal.LSN
	Epoch   wal.Epoch
	Effects []Effect // on user keys
}

// Effect is what a record does to one key.
type Effect struct {
	Key   string
	Set   bool // else it is deleted; an empty Key and false: every key is
	Value string
}

// Frame is one frame of a log.
type Frame struct {
	Prev  wal.Hash
	First wal.LSN
	End   wal.Position
}

// Log is the log of one node, or of all together.
type Log struct {
	Start   wal.Position
	Frames  []Frame
	Records []Record
	Holders map[wal.Epoch]string // who began each epoch, by its epoch-start record
}

// End is its end.
func (l *Log) End() wal.Position {
	if n := len(l.Frames); n > 0 {
		return l.Frames[n-1].End
	}
	return l.Start
}

// ReadLog reads the log below a node's data directory. The node may run; then the end is that of some moment.
func ReadLog(data string) (*Log, error) {
	l := &Log{}
	var shape []Frame
	rep, err := wal.Verify(vfs.Default, filepath.Join(data, "groups", "default", "wal"), wal.VerifyOptions{OnFrame: func(f *wal.Frame) error {
		shape = append(shape, Frame{Prev: f.Prev, First: f.First, End: f.End()})
		return l.add(f)
	}})
	if err != nil {
		return nil, err
	}
	l.Start, l.Frames = rep.Start, shape
	return l, nil
}

func (l *Log) add(f *wal.Frame) error {
	return f.Each(func(r wal.Record) error {
		rec := Record{LSN: r.LSN, Epoch: f.Epoch}
		switch r.Kind {
		case wal.KindEpochStart:
			var start wal.EpochStart
			if err := json.Unmarshal(r.Payload, &start); err != nil {
				return fmt.Errorf("record %d: %w", r.LSN, err)
			}
			if l.Holders == nil {
				l.Holders = map[wal.Epoch]string{}
			}
			l.Holders[start.Epoch] = start.Holder
		case wal.KindEffects:
			err := kv.WalkEffects(r.Payload, func(e kv.Effect) error {
				if e.Row == kv.RowKey {
					rec.Effects = append(rec.Effects, Effect{Key: string(e.Key), Set: e.Op == kv.OpSet, Value: string(e.Value)})
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("record %d: %w", r.LSN, err)
			}
		}
		l.Records = append(l.Records, rec)
		return nil
	})
}

// Stitch reads the logs of all nodes and holds that they are one history (R2): wherever two of them know the end of a frame at the same LSN it has the same hash. Logs
// that begin later (their node was seeded, or the log was trimmed) are used as far as they go. The result is the longest history that they give together, from
// the first LSN on that is known without a gap.
func Stitch(dirs map[string]string) (*Log, error) {
	names := make([]string, 0, len(dirs))
	for n := range dirs {
		names = append(names, n)
	}
	sort.Strings(names)
	var logs []*Log
	seen := map[wal.LSN]wal.Position{}
	who := map[wal.LSN]string{}
	for _, n := range names {
		l, err := ReadLog(dirs[n])
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", n, err)
		}
		for _, f := range l.Frames {
			if have, ok := seen[f.End.LSN]; ok && have != f.End {
				return nil, fmt.Errorf("the logs differ: %s has %v, %s has %v (R2)", who[f.End.LSN], have, n, f.End)
			}
			seen[f.End.LSN], who[f.End.LSN] = f.End, n
		}
		logs = append(logs, l)
	}
	return join(logs)
}

// join appends to the log that begins first what the others know beyond its end.
func join(logs []*Log) (*Log, error) {
	if len(logs) == 0 {
		return nil, errors.New("no log could be read")
	}
	sort.Slice(logs, func(i, j int) bool { return logs[i].Start.LSN < logs[j].Start.LSN })
	holders := map[wal.Epoch]string{}
	for _, l := range logs {
		maps.Copy(holders, l.Holders)
	}
	whole := *logs[0]
	for _, l := range logs[1:] {
		if l.Start.LSN > whole.End().LSN { // a gap: the older part cannot be joined to anything
			whole = *l
			continue
		}
		for _, f := range l.Frames {
			if f.First == whole.End().LSN+1 && f.Prev == whole.End().Hash {
				whole.Frames = append(whole.Frames, f)
			}
		}
		for _, r := range l.Records {
			if n := len(whole.Records); (n == 0 || r.LSN == whole.Records[n-1].LSN+1) && r.LSN <= whole.End().LSN {
				whole.Records = append(whole.Records, r)
			}
		}
	}
	for i := 1; i < len(whole.Records); i++ {
		if a, b := whole.Records[i-1], whole.Records[i]; b.Epoch < a.Epoch || b.LSN != a.LSN+1 {
			return nil, fmt.Errorf("record %d of epoch %d follows record %d of epoch %d (R2)", b.LSN, b.Epoch, a.LSN, a.Epoch)
		}
	}
	whole.Holders = holders
	return &whole, nil
}

// EpochOf returns the epoch in which lsn was written, 0 if the log does not have it.
func (l *Log) EpochOf(lsn wal.LSN) wal.Epoch {
	if len(l.Records) == 0 || lsn < l.Records[0].LSN || lsn > l.Records[len(l.Records)-1].LSN {
		return 0
	}
	return l.Records[lsn-l.Records[0].LSN].Epoch
}
