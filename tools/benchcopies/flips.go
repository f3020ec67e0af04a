package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// flips flips single bytes all over the archive and counts how many of them backup check finds. Every byte of a small archive is flipped by a test.
func (b *bench) flips(ctx context.Context) (tried, found int, err error) {
	var paths []string
	var ends []int64
	total := int64(0)
	err = filepath.WalkDir(filepath.Join(b.dir, "archive"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if err != nil || i.Size() == 0 {
			return err
		}
		total += i.Size()
		paths, ends = append(paths, path), append(ends, total)
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	for range b.sampled {
		at, file := b.rnd.Int64N(total), 0
		for ends[file] <= at {
			file++
		}
		if file > 0 {
			at -= ends[file-1]
		}
		if err := flip(paths[file], at); err != nil {
			return tried, found, err
		}
		_, _, err := b.ctl(ctx, "backup", "check", "--from", b.url(), "--of", "bench")
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitDamaged {
			found++
		} else {
			b.say("byte %d of %s was flipped and not found: %v", at, paths[file], err)
		}
		tried++
		if err := flip(paths[file], at); err != nil {
			return tried, found, err
		}
	}
	return tried, found, nil
}

// exitDamaged is replctl's exit code for damage.
const exitDamaged = 6

func flip(path string, at int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var c [1]byte
	if _, err := f.ReadAt(c[:], at); err != nil {
		return fmt.Errorf("byte %d of %s: %w", at, path, err)
	}
	c[0] ^= 1 << (at % 8)
	_, err = f.WriteAt(c[:], at)
	return err
}
