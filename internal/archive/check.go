package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"repld/wal"
)

// Report is what Check has found.
type Report struct {
	Backups  int          `json:"backups"`
	Objects  int          `json:"objects"` // that backups name
	Bytes    int64        `json:"bytes"`
	Chunks   int          `json:"chunks"`
	From     wal.Position `json:"from"` // of the oldest backup behind the last gap: every moment from there to To can be restored
	To       wal.Position `json:"to"`   // the newest one
	Problems []string     `json:"problems,omitempty"`
}

// maxProblems bounds a report.
const maxProblems = 50

// Check looks whether everything is there that the backups and a restore to any moment between From and To need. With deep it reads every byte of it. The error is
// ErrDamaged when there are Problems.
func (a *Archive) Check(ctx context.Context, deep bool, progress func(Progress)) (Report, error) {
	var r Report
	var mu sync.Mutex
	problem := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if len(r.Problems) < maxProblems {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	all, err := a.Backups(ctx)
	if err != nil {
		problem(err)
	}
	objects := map[string]File{}
	for _, b := range all {
		for _, f := range b.Files {
			objects[f.Object] = f
			r.Bytes += f.Size
		}
	}
	chunks, err := a.Chunks(ctx)
	if err != nil {
		problem(err)
	}
	r.Backups, r.Objects, r.Chunks = len(all), len(objects), len(chunks)
	total := int64(0)
	for _, f := range objects {
		total += f.Size
	}
	for _, c := range chunks {
		total += c.Size
	}
	var sent atomic.Int64
	report := meter(len(objects)+len(chunks), total, &sent, progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	look := func(size int64, fn func() error) {
		g.Go(func() error {
			if err := fn(); err != nil {
				if gctx.Err() != nil {
					return gctx.Err()
				}
				problem(err)
			}
			report(size)
			return nil
		})
	}
	for _, f := range objects {
		look(f.Size, func() error {
			if deep {
				return a.checkObject(gctx, f, io.Discard)
			}
			i, err := a.store.Stat(gctx, a.key(objectName(f.Object)))
			want := f.Size
			if a.to != nil {
				want = a.sealed(want)
			}
			if err == nil && i.Size != want {
				err = fmt.Errorf("%w: object %s has %d bytes, want %d", ErrDamaged, f.Object, i.Size, want)
			}
			return err
		})
	}
	for _, c := range chunks {
		if deep {
			look(c.Size, func() error { return a.ReadChunk(gctx, c, func(*wal.Frame) error { return nil }) })
		}
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	if n := len(all); n > 0 {
		r.From, r.To = all[n-1].Position, all[n-1].Position
	}
	for i := len(all) - 1; i >= 0; i-- { // not beyond a gap
		if _, err := Path(chunks, all[i].Position, 0); err != nil {
			break
		}
		r.From = all[i].Position
	}
	for i, b := range all {
		path, err := Path(chunks, b.Position, 0)
		switch {
		case err != nil && i < len(all)-1:
			problem(fmt.Errorf("backup %s at %s: %w", b.ID, b.Position, err))
		case err == nil && len(path) > 0 && path[len(path)-1].End.Ahead(r.To):
			r.To = path[len(path)-1].End
		case err != nil:
			problem(fmt.Errorf("the newest backup, %s at %s, cannot be followed by the log: %w", b.ID, b.Position, err))
		}
	}
	slices.Sort(r.Problems)
	if len(r.Problems) > 0 {
		return r, fmt.Errorf("%w: %s", ErrDamaged, r.Problems[0])
	}
	return r, nil
}

// Policy says what Expire keeps.
type Policy struct {
	Keep  int           // the newest so many backups, at least 1
	Age   time.Duration // and all that are younger, 0 = none
	Grace time.Duration // objects that nobody names are kept for so long: a backup may be going on that will. Default 24 h
	Plan  bool          // say it only
}

// Expired is what Expire removed, or would.
type Expired struct {
	Backups []string `json:"backups"`
	Kept    int      `json:"kept"`
	Objects int      `json:"objects"`
	Chunks  int      `json:"chunks"`
	Bytes   int64    `json:"bytes"`
}

// Expire removes old backups, then what no backup that is left needs: objects, and log from before the oldest one. It refuses when a manifest cannot be read, because what that
// names would be removed.
func (a *Archive) Expire(ctx context.Context, p Policy) (Expired, error) {
	var out Expired
	if p.Keep < 1 {
		return out, errors.New("expire: at least one backup is kept")
	}
	if p.Grace == 0 {
		p.Grace = 24 * time.Hour
	}
	all, err := a.Backups(ctx)
	if err != nil {
		return out, fmt.Errorf("expire: nothing was removed: %w", err)
	}
	slices.SortFunc(all, func(x, y Backup) int { return x.Created.Compare(y.Created) })
	now := time.Now()
	used := map[string]bool{}
	oldest := wal.LSN(0)
	for i, b := range all {
		if i < len(all)-p.Keep && (p.Age == 0 || now.Sub(b.Created) > p.Age) {
			out.Backups = append(out.Backups, b.ID)
			if !p.Plan {
				if err := a.store.Delete(ctx, a.key(b.name())); err != nil {
					return out, err
				}
			}
			continue
		}
		out.Kept++
		if oldest == 0 || b.Position.LSN < oldest {
			oldest = b.Position.LSN
		}
		for _, f := range b.Files {
			used[f.Object] = true
		}
	}
	drop := func(n *int, i Info) error {
		*n++
		out.Bytes += i.Size
		if p.Plan {
			return nil
		}
		return a.store.Delete(ctx, i.Key)
	}
	err = a.list(ctx, "objects", func(name string, i Info) error {
		if used[name[len("objects/00/"):]] || now.Sub(i.Modified) < p.Grace {
			return nil
		}
		return drop(&out.Objects, i)
	})
	if err != nil || out.Kept == 0 {
		return out, err
	}
	return out, a.list(ctx, "log", func(name string, i Info) error {
		c, err := parseChunk(name, i.Size)
		if err != nil || c.End.LSN > oldest {
			return err
		}
		return drop(&out.Chunks, i)
	})
}
