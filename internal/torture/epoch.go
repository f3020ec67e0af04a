package torture

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"repld/failover"
	"repld/wal"
)

// epochOnDisk reads the epoch file of a node that does not run, from a copy: reading it in place could repair it.
func epochOnDisk(data string) (wal.Epoch, error) {
	dir, err := os.MkdirTemp("", "rtepoch")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := copyFile(filepath.Join(data, "groups", "default", "epoch"), filepath.Join(dir, "epoch")); err != nil {
		return 0, err
	}
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{Dir: dir})
	if err != nil {
		return 0, err
	}
	return slots.State().Epoch(), slots.Close()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
