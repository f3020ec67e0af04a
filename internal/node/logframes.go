package node

import (
	"errors"
	"fmt"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/wal"
)

// Bounds of one answer of the log API.
const (
	maxLogFrames  = 256
	maxLogRecords = 4096
)

// logFrames describes the frames that hold records in [from, to], as many as fit one answer.
func (g *group) logFrames(from, to wal.LSN) ([]admin.LogFrame, error) {
	from = max(from, g.log.Start().LSN+1)
	if end := g.log.Durable().LSN; to == 0 || to > end {
		to = end
	}
	var frames []admin.LogFrame
	records := 0
	for lsn := from; lsn <= to && len(frames) < maxLogFrames && records < maxLogRecords; {
		f, err := g.log.FrameAt(lsn)
		if errors.Is(err, wal.ErrTrimmed) {
			return frames, &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("lsn %d is no longer in the log, which starts after %d", lsn, g.log.Start().LSN)}
		}
		if err != nil {
			return frames, err
		}
		d, err := describeFrame(f)
		if err != nil {
			return frames, err
		}
		frames = append(frames, d)
		records += len(d.Records)
		lsn = f.Last() + 1
	}
	return frames, nil
}

// effectText is an effect in one line, without its value.
func effectText(e kv.Effect) string {
	switch e.Row {
	case kv.RowOnce:
		return fmt.Sprintf("%s result of id %q", e.Op, e.Key)
	case kv.RowOnceExpiry:
		return fmt.Sprintf("%s expiry of the result of id %q", e.Op, e.Key)
	}
	switch e.Op {
	case kv.OpSet:
		return fmt.Sprintf("set %q (%d bytes)", e.Key, len(e.Value))
	case kv.OpDelete:
		return fmt.Sprintf("del %q", e.Key)
	}
	return e.Op.String()
}

func describeFrame(f *wal.Frame) (admin.LogFrame, error) {
	d := admin.LogFrame{
		Epoch: f.Epoch, First: f.First, Last: f.Last(), Committed: f.Committed, Time: f.Time, Prev: f.Prev, Hash: f.Hash, Bytes: len(f.Bytes),
	}
	err := f.Each(func(r wal.Record) error {
		out := admin.LogRecord{LSN: r.LSN, Kind: r.Kind.String()}
		switch r.Kind {
		case wal.KindEffects:
			err := kv.WalkEffects(r.Payload, func(e kv.Effect) error {
				out.Effects = append(out.Effects, effectText(e))
				return nil
			})
			if err != nil {
				return fmt.Errorf("record %d: %w", r.LSN, err)
			}
		case wal.KindEpochStart, wal.KindMark:
			out.Effects = []string{string(r.Payload)}
		}
		d.Records = append(d.Records, out)
		return nil
	})
	return d, err
}
