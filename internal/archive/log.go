package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"repld/wal"
)

// Chunk is a piece of archived log: frames that follow each other.
type Chunk struct {
	First wal.LSN      // of its first record
	Prev  wal.Hash     // end of the frame before
	End   wal.Position // of its last frame
	Size  int64        // as stored
}

// before is the position that the chunk continues, without its epoch, which the name does not tell.
func (c Chunk) before() (wal.LSN, wal.Hash) { return c.First - 1, c.Prev }

func (c Chunk) name() string {
	return fmt.Sprintf("log/%020d-%020d-%010d-%s-%s", c.First, c.End.LSN, c.End.Epoch, c.Prev, c.End.Hash)
}

func parseChunk(name string, size int64) (Chunk, error) {
	c := Chunk{Size: size}
	text := strings.ReplaceAll(strings.TrimPrefix(name, "log/"), "-", " ")
	var prev, end string
	if _, err := fmt.Sscanf(text, "%d %d %d %s %s", &c.First, &c.End.LSN, &c.End.Epoch, &prev, &end); err != nil {
		return c, fmt.Errorf("%w: piece of log called %q", ErrDamaged, name)
	}
	if err := errors.Join(c.Prev.UnmarshalText([]byte(prev)), c.End.Hash.UnmarshalText([]byte(end))); err != nil || c.name() != name || c.First == 0 || c.End.LSN < c.First {
		return c, fmt.Errorf("%w: piece of log called %q", ErrDamaged, name)
	}
	return c, nil
}

// ChunkBytes is the size at which a piece of log is closed; frames are never split.
const ChunkBytes = 4 << 20

// PutFrames archives frames that follow each other. Doing it again is no error.
func (a *Archive) PutFrames(ctx context.Context, frames []*wal.Frame) (Chunk, error) {
	first, last := frames[0], frames[len(frames)-1]
	c := Chunk{First: first.First, Prev: first.Prev, End: last.End()}
	readers := make([]io.Reader, 0, len(frames))
	for _, f := range frames {
		readers = append(readers, bytes.NewReader(f.Bytes))
		c.Size += f.Size()
	}
	return c, a.put(ctx, c.name(), io.MultiReader(readers...), c.Size)
}

// Chunks lists the archived log by first LSN, then by epoch.
func (a *Archive) Chunks(ctx context.Context) ([]Chunk, error) {
	var all []Chunk
	err := a.list(ctx, "log", func(name string, i Info) error {
		c, err := parseChunk(name, i.Size)
		if err == nil {
			all = append(all, c)
		}
		return err
	})
	slices.SortFunc(all, func(x, y Chunk) int {
		return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(x.End.Epoch, y.End.Epoch), cmp.Compare(x.End.LSN, y.End.LSN))
	})
	return all, err
}

// ReadChunk calls fn with the frames of a piece and checks that they are what its name says.
func (a *Archive) ReadChunk(ctx context.Context, c Chunk, fn func(*wal.Frame) error) error {
	r, err := a.get(ctx, c.name())
	if err != nil {
		return err
	}
	defer r.Close()
	lsn, hash := c.before()
	var end wal.Position
	for lsn != c.End.LSN {
		f, err := wal.ReadFrame(r, wal.MaxFrameBytes)
		if err == nil && (f.First != lsn+1 || f.Prev != hash || f.Last() > c.End.LSN) {
			err = fmt.Errorf("%w: frame of LSN %d behind %d", ErrDamaged, f.First, lsn)
		}
		if errors.Is(err, wal.ErrCorrupt) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, wal.ErrVersion) || errors.Is(err, wal.ErrTooLarge) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err != nil {
			return damaged(c.name(), err)
		}
		if err := fn(f); err != nil {
			return err
		}
		end = f.End()
		lsn, hash = end.LSN, end.Hash
	}
	if n, err := io.Copy(io.Discard, r); n != 0 || err != nil {
		return fmt.Errorf("%s: %w: %d bytes behind its last frame (%v)", c.name(), ErrDamaged, n, err)
	}
	if end != c.End {
		return fmt.Errorf("%s: %w: it ends at %s", c.name(), ErrDamaged, end)
	}
	return nil
}

// Step is a piece of a Path: a chunk, of which frames up to To are part of the history.
type Step struct {
	Chunk
	To wal.LSN
}

// Path chooses the pieces that lead from a position to the end of the newest history: of the highest epoch, at most epoch if that is not 0. Pieces may overlap (two nodes
// archived) and branch off (records were given up): it is found backwards, from the end, by the chain hashes. ErrGap if it does not reach back to from.
func Path(chunks []Chunk, from wal.Position, epoch wal.Epoch) ([]Step, error) {
	path, err := back(chunks, from, epoch)
	if err != nil {
		return nil, err
	}
	return path, nil
}

// back is Path, but with ErrGap it returns the pieces behind the gap, if there are any.
func back(chunks []Chunk, from wal.Position, epoch wal.Epoch) ([]Step, error) {
	byEnd := map[wal.LSN][]Chunk{}
	var last Chunk
	for _, c := range chunks {
		if epoch != 0 && c.End.Epoch > epoch {
			continue
		}
		byEnd[c.End.LSN] = append(byEnd[c.End.LSN], c)
		if c.End.Ahead(last.End) {
			last = c
		}
	}
	if last.End.LSN <= from.LSN {
		return nil, nil
	}
	var path []Step
	for at := (Step{last, last.End.LSN}); ; {
		path = append(path, at)
		lsn, hash := at.before()
		if lsn <= from.LSN {
			slices.Reverse(path)
			if lsn == from.LSN && hash != from.Hash {
				return nil, fmt.Errorf("%w: what is archived behind LSN %d is not of the history of %s", ErrGap, lsn, from)
			}
			return path, nil
		}
		next, ok := before(chunks, byEnd[lsn], at, epoch)
		if !ok {
			slices.Reverse(path)
			return path, fmt.Errorf("%w: nothing is archived that ends at LSN %d, hash %s", ErrGap, lsn, hash)
		}
		at = Step{next, lsn}
	}
}

// PathTo is Path for a history that is wanted up to an LSN only: a gap behind that does not matter, if the history goes on behind it in the epoch in which it ends before it, for one epoch has
// one history (R2). Otherwise it is not known whether the records before the gap were given up.
func PathTo(chunks []Chunk, from wal.Position, to wal.LSN, epoch wal.Epoch) ([]Step, error) {
	path, err := back(chunks, from, epoch)
	if err == nil {
		return path, nil
	}
	newest := wal.Epoch(0) // of the history just behind the gap, at least
	if len(path) > 0 {
		newest = path[0].End.Epoch
	}
	var until []Chunk
	for _, c := range chunks {
		if c.First <= to && (epoch == 0 || c.End.Epoch <= epoch) {
			until = append(until, c)
		}
	}
	short, shortErr := Path(until, from, epoch)
	if n := len(short); shortErr != nil || n == 0 || short[n-1].End.LSN < to {
		return nil, err
	} else if last := short[n-1].End.Epoch; last != newest || path[0].To != path[0].End.LSN {
		return nil, fmt.Errorf("%w; before the gap there is a history of epoch %d up to LSN %d, of which it is not known whether epoch %d gave it up: say --epoch %d to have it", err, last, short[n-1].End.LSN, newest, last)
	}
	return short, nil
}

// before finds the piece that holds the frame before s: one that ends there, else one that goes on beyond it, in another history or archived by another node.
func before(all, ending []Chunk, s Step, epoch wal.Epoch) (best Chunk, ok bool) {
	lsn, hash := s.before()
	for _, c := range ending {
		if c.End.Hash == hash && (!ok || c.First < best.First) {
			best, ok = c, true
		}
	}
	if ok {
		return best, true
	}
	for _, c := range all {
		if c.First <= lsn && c.End.LSN > lsn && c.End.Epoch <= s.End.Epoch && (epoch == 0 || c.End.Epoch <= epoch) && (!ok || c.End.Epoch > best.End.Epoch) {
			best, ok = c, true // its frames are checked when they are read
		}
	}
	return best, ok
}

// errStop ends a walk early, by the word of its caller.
var errStop = errors.New("stop")

// ErrStop may be returned by the function that is given to Walk.
var ErrStop = errStop

// Walk calls fn with the frames of a path behind from, in order, without a gap: each continues the one before by its chain hash. ErrStop ends it without an error.
func (a *Archive) Walk(ctx context.Context, path []Step, from wal.Position, fn func(*wal.Frame) error) error {
	at := from
	for _, s := range path {
		err := a.ReadChunk(ctx, s.Chunk, func(f *wal.Frame) error {
			switch {
			case f.Last() <= at.LSN:
				return nil
			case f.First > s.To:
				return errStop
			case f.First != at.LSN+1 || f.Prev != at.Hash:
				return fmt.Errorf("%w: frame of LSN %d does not continue %s", ErrGap, f.First, at)
			}
			if err := fn(f); err != nil {
				return err
			}
			at = f.End()
			return nil
		})
		switch {
		case errors.Is(err, errStop) && at.LSN >= s.To:
			continue
		case errors.Is(err, errStop):
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}
