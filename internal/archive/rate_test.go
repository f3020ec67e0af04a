package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a store without a disk: nothing in it takes time.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	puts    atomic.Int64 // bytes that were taken
	fail    func(key string) error
}

func (m *memory) Put(_ context.Context, key string, r io.Reader, _ int64) error {
	b, err := io.ReadAll(r)
	if err == nil && m.fail != nil {
		err = m.fail(key)
	}
	if err != nil {
		return err
	}
	m.puts.Add(int64(len(b)))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = b
	return nil
}

func (m *memory) Get(_ context.Context, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok {
		return nil, ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memory) Stat(_ context.Context, key string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok {
		return Info{}, ErrNotFound
	}
	return Info{Key: key, Size: int64(len(b))}, nil
}

func (m *memory) List(_ context.Context, prefix string, fn func(Info) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, b := range m.objects {
		if strings.HasPrefix(key, prefix) {
			if err := fn(Info{Key: key, Size: int64(len(b))}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Delete(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func opened(t *testing.T, m *memory, rate int64) *Archive {
	t.Helper()
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	a, err := Open(t.Context(), Options{Store: m, Cluster: "shop", Rate: rate, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// many makes files whose contents are all different.
func many(t *testing.T, files, size int) Source {
	t.Helper()
	var texts []string
	for i := range files {
		texts = append(texts, strings.Repeat(fmt.Sprintf("%08d", i), size/8))
	}
	return source(t, 4, texts...)
}

// A backup takes as long as its bytes at the rate, to a hundredth, however many files are on their way at once; so do archived log and what is read back. The clock is the test's.
func TestRateOfBackup(t *testing.T) {
	t.Parallel()
	const rate = 1 << 20
	src := many(t, 24, 256<<10) // 6 MiB
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a := opened(t, m, rate)
		timed := func(what string, bytes int64, do func() error) {
			t.Helper()
			began := time.Now()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			took, want := time.Since(began).Seconds(), float64(bytes)/rate
			t.Logf("%s: %d bytes in %.3f s, %.3f of the rate", what, bytes, took, want/took)
			if ratio := took / want; ratio < 0.99 || ratio > 1.02 {
				t.Errorf("%s: %d bytes took %.3f s, want %.3f s", what, bytes, took, want)
			}
		}
		var b Backup
		timed("backup", src.bytes(), func() (err error) { b, err = a.Create(t.Context(), src, nil); return err })
		timed("check", src.bytes(), func() error { _, err := a.Check(t.Context(), true, nil); return err })
		timed("read", b.Files[0].Size, func() error { return a.Read(t.Context(), b.Files[0], io.Discard) })
	})
}

func (s Source) bytes() (n int64) {
	for _, f := range s.Files {
		n += f.Size
	}
	return n
}

// A reader that is made to wait ends with its context.
func TestPaceEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := io.Copy(io.Discard, newPace(1<<20).reader(ctx, bytes.NewReader(make([]byte, 1<<20)))); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled reader: %v", err)
	}
}

// A backup that was broken off anywhere is resumed: what the attempts send together is what one would have sent, file by file, but for the files that were on their way.
func TestBackupResumes(t *testing.T) {
	t.Parallel()
	const files, size = 40, 8 << 10
	src := many(t, files, size)
	m := &memory{}
	a := opened(t, m, 0)
	before := m.puts.Load()
	broken := errors.New("broken off")
	var attempts, sent int64
	for stop := int64(1); ; stop++ {
		var n atomic.Int64
		m.fail = func(key string) error {
			if strings.Contains(key, "/objects/") && n.Add(1) > 5 {
				return broken
			}
			return nil
		}
		attempts++
		b, err := a.Create(t.Context(), src, nil)
		if err == nil {
			sent = b.Sent
			break
		}
		if !errors.Is(err, broken) || attempts > files {
			t.Fatal(err)
		}
		if all, err := a.Backups(t.Context()); err != nil || len(all) != 0 {
			t.Fatalf("a broken backup is listed: %v, %v", all, err)
		}
	}
	m.mu.Lock()
	manifest := int64(0)
	for key, b := range m.objects {
		if strings.Contains(key, "/backups/") {
			manifest += int64(len(b))
		}
	}
	m.mu.Unlock()
	total := m.puts.Load() - before - manifest
	t.Logf("%d attempts, %d bytes stored in all, the last one sent %d of %d", attempts, total, sent, src.bytes())
	if total != src.bytes() {
		t.Errorf("%d bytes were stored, the state has %d: something was sent twice", total, src.bytes())
	}
	if attempts < files/5-1 || sent > 5*size {
		t.Errorf("%d attempts, the last one sent %d bytes", attempts, sent)
	}
	if rep, err := a.Check(t.Context(), true, nil); err != nil || rep.Backups != 1 {
		t.Fatalf("%+v, %v", rep, err)
	}
}
