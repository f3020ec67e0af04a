package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// VerifyReport is what VerifyDir has found.
type VerifyReport struct {
	Position   wal.Position `json:"position"`
	Digest     Digest       `json:"digest"`
	Keys       int64        `json:"keys"`     // counted
	Expiring   int64        `json:"expiring"` // of these, with an expiry
	Tables     int          `json:"tables"`   // files whose blocks were all checked
	TableBytes int64        `json:"table_bytes"`
	Ignored    []string     `json:"ignored,omitempty"`  // files that were not looked at because they are no part of the state
	Problems   []string     `json:"problems,omitempty"` // at most maxProblems, in words
}

// maxProblems bounds a report on a state that is damaged throughout.
const maxProblems = 20

// VerifyDir checks a state that nobody has open, changing nothing: the checksum of every block of every file, that every
// row can be read, that the number of keys and the expiry index agree with the keys. The error is ErrCorrupt when there
// are Problems (the report then holds what could be found out), ErrInUse, ErrNotExist, or the context's. progress, if not
// nil, is called with the bytes done and the bytes to do, of the files and then once more for the rows.
func VerifyDir(ctx context.Context, fs vfs.FS, dir string, progress func(done, total int64)) (VerifyReport, error) {
	db, closeDB, err := openReadOnly(fs, dir)
	if err != nil {
		return VerifyReport{}, fmt.Errorf("verify: %w", err)
	}
	v := verifier{ctx: ctx, fs: fs, dir: dir, db: db, progress: progress}
	err = v.run()
	if err == nil && len(v.report.Problems) > 0 {
		err = fmt.Errorf("%w: %s", ErrCorrupt, v.report.Problems[0])
	}
	if err = errors.Join(err, closeDB()); err != nil {
		return v.report, fmt.Errorf("verify state %s: %w", dir, err)
	}
	return v.report, nil
}

type verifier struct {
	ctx      context.Context
	fs       vfs.FS
	dir      string
	db       *pebble.DB
	progress func(done, total int64)
	report   VerifyReport
	done     int64
	total    int64
	keysSum  uint64 // of the hashes of (expiry, key), by the keys …
	indexSum uint64 // … and by the expiry index
	indexed  int64
	ids      int64  // results by id …
	idRows   int64  // … and rows that say when they go
	idSum    uint64 // of the hashes of (expiry, id), by the results …
	idIndex  uint64 // … and by the index
}

func (v *verifier) problem(format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

func (v *verifier) step(n int64) {
	v.done += n
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

func (v *verifier) run() error {
	if err := v.files(); err != nil {
		return err
	}
	tables, err := v.tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if err := v.table(t.name); err != nil {
			v.problem("file %s: %v", t.name, err)
		}
		v.report.Tables++
		v.report.TableBytes += t.size
		v.step(t.size)
	}
	if err := v.db.CheckLevels(nil); err != nil {
		v.problem("order of the files: %v", err)
	}
	return v.rows()
}

type tableFile struct {
	name string
	size int64
}

// tables lists the files behind the current version, each once (a virtual table shares its file with others).
func (v *verifier) tables() ([]tableFile, error) {
	levels, err := v.db.SSTables()
	if err != nil {
		return nil, readError("list files", err)
	}
	seen := map[string]bool{}
	var list []tableFile
	for _, level := range levels {
		for _, t := range level {
			name := fmt.Sprintf("%06d.sst", uint64(t.BackingSSTNum))
			if seen[name] {
				continue
			}
			seen[name] = true
			var size int64
			if info, err := v.fs.Stat(v.fs.PathJoin(v.dir, name)); err == nil {
				size = info.Size()
			}
			list = append(list, tableFile{name, size})
			v.total += 2 * size
		}
	}
	return list, nil
}

// table checks every block of a file, those that no read would look at included.
func (v *verifier) table(name string) error {
	f, err := v.fs.Open(v.fs.PathJoin(v.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(v.ctx, readable, readerOptions(v.fs, v.dir))
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// readerOptions are those of the state's own files.
func readerOptions(fs vfs.FS, dir string) sstable.ReaderOptions {
	o := Options{FS: fs, Dir: dir}
	o.EnsureDefaults()
	p := pebbleOptions(o, newHealth(o))
	p.EnsureDefaults()
	return p.MakeReaderOptions()
}

// rows reads everything as a reader would.
func (v *verifier) rows() error {
	pos, keys, err := readSystem(v.db)
	if err != nil {
		v.problem("system rows: %v", err)
	}
	v.report.Position = pos
	d := newDigester(v.ctx, 0, nil)
	err = walkRows(v.db, func(key, value []byte) error {
		v.row(key, value)
		return d.add(key, value)
	})
	if ctxErr := v.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	v.step(v.total - v.done)
	if err != nil {
		v.problem("%v", err)
		return nil // the sums below would only repeat it
	}
	v.report.Digest = d.sum(pos)
	if keys != v.report.Keys {
		v.problem("number of keys: row says %d, counted %d", keys, v.report.Keys)
	}
	if v.indexed != v.report.Expiring || v.indexSum != v.keysSum {
		v.problem("expiry index: %d rows for %d keys that expire, or other ones", v.indexed, v.report.Expiring)
	}
	if v.ids != v.idRows || v.idSum != v.idIndex {
		v.problem("expiry index of results by id: %d rows for %d results, or other ones", v.idRows, v.ids)
	}
	return nil
}

func (v *verifier) row(key, value []byte) {
	switch Row(key[0]) {
	case RowSystem:
		if s := string(key); s != positionRow && s != countRow {
			v.problem("unknown system row %q", key)
		}
	case RowKey:
		v.report.Keys++
		e, err := decodeMeta(value)
		if err != nil {
			v.problem("key %q: %v", key[1:], err)
			return
		}
		if e.ExpireAt != 0 {
			v.report.Expiring++
			v.keysSum += expiryHash(e.ExpireAt, key[1:])
		}
	case RowExpiry:
		if len(key) < expiryHead || len(value) > 0 {
			v.problem("bad expiry row %q", key)
			return
		}
		at, user := splitExpiryRow(key)
		v.indexed++
		v.indexSum += expiryHash(at, user)
	case RowOnce, RowOnceExpiry:
		v.once(key, value)
	default:
		v.problem("row %q of unknown class", key)
	}
}

// expiryHash makes sums that agree only if keys and index hold the same pairs, whatever their order.
func expiryHash(expireAt int64, key []byte) uint64 {
	d := xxhash.New()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(expireAt))
	_, _ = d.Write(b[:])
	_, _ = d.Write(key)
	return d.Sum64()
}
