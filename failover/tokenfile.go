package failover

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"repld/internal/durable"
	"repld/internal/strict"
)

// link stores rec under its revision's name; false when the name was taken. Content is synced before the name
// appears, the name before this returns. After a failed write, link or sync nothing more is promised (R10).
func (s *FileStore) link(rec Record) (bool, error) {
	doc, err := json.Marshal(rec)
	if err != nil || len(doc) > maxTokenSize-boxHeader {
		return false, fmt.Errorf("token: %w: record of %d bytes: %w", ErrInvalid, len(doc), err)
	}
	tmp := s.o.FS.PathJoin(s.o.Dir, tempPrefix+rand.Text())
	err = durable.WriteFile(s.o.FS, tmp, encodeBox(tokenMagic, rec.Rev, doc))
	if err == nil {
		err = s.o.FS.Link(tmp, s.path(rec.Rev))
	}
	taken := errors.Is(err, fs.ErrExist)
	if taken {
		err = nil
	}
	if rm := s.o.FS.Remove(tmp); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	err = errors.Join(err, durable.SyncDir(s.o.FS, s.o.Dir))
	if err != nil {
		return false, s.fail(fmt.Errorf("token revision %d in %s: %w: %w", rec.Rev, s.o.Dir, ErrFailed, err))
	}
	return !taken, nil
}

// prune removes revisions that nobody needs. Failing to remove is no reason to fail.
func (s *FileStore) prune(newest uint64) {
	revs, err := s.list()
	if err != nil {
		s.o.Logger.Warn("cannot prune token files", "err", err)
		return
	}
	for _, r := range revs {
		if r+uint64(s.o.Keep) > newest {
			return
		}
		if err := s.o.FS.Remove(s.path(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.o.Logger.Warn("cannot prune token file", "file", s.path(r), "err", err)
		}
	}
}

// list returns the revisions in rising order. Names of another form are not ours and are left alone.
func (s *FileStore) list() ([]uint64, error) {
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return nil, err
	}
	var revs []uint64
	for _, n := range names {
		digits, ok := strings.CutSuffix(n, tokenSuffix)
		if !ok || len(digits) != 20 {
			continue
		}
		if r, err := strconv.ParseUint(digits, 10, 64); err == nil && r > 0 {
			revs = append(revs, r)
		}
	}
	slices.Sort(revs)
	return revs, nil
}

func (s *FileStore) path(rev uint64) string {
	return s.o.FS.PathJoin(s.o.Dir, fmt.Sprintf("%020d%s", rev, tokenSuffix))
}

func (s *FileStore) read(rev uint64) (Record, error) {
	f, err := s.o.FS.Open(s.path(rev))
	if err != nil {
		return Record{}, fmt.Errorf("open token: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTokenSize+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return Record{}, fmt.Errorf("read token %s: %w", s.path(rev), err)
	}
	rec, err := decodeRecord(b)
	if err == nil && rec.Rev != rev {
		err = fmt.Errorf("%w: it holds revision %d", errBox, rec.Rev)
	}
	switch {
	case errors.Is(err, ErrVersion):
		return Record{}, fmt.Errorf("%s: %w", s.path(rev), err)
	case err != nil:
		return Record{}, &CorruptError{File: s.path(rev), Reason: err.Error()}
	}
	return rec, nil
}

// decodeRecord decodes the stored form of one revision.
func decodeRecord(b []byte) (Record, error) {
	rev, doc, err := decodeBox(tokenMagic, b)
	if err != nil {
		return Record{}, err
	}
	if extra := len(b) - boxHeader - len(doc); extra != 0 {
		return Record{}, fmt.Errorf("%w: %d bytes after the record", errBox, extra)
	}
	var rec Record
	if err := strict.Decode(doc, &rec); err != nil {
		return Record{}, fmt.Errorf("%w: %w", errBox, err)
	}
	if rec.Rev != rev || rev == 0 || rec.Epoch == 0 || rec.Holder == "" {
		return Record{}, fmt.Errorf("%w: revision %d (%d outside), epoch %d held by %q", errBox, rec.Rev, rev, rec.Epoch, rec.Holder)
	}
	return rec, nil
}
