package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// DigestDir digests a state that nobody has open, at no more than rate bytes a second (0 = as fast as it can), and says how many keys it holds. Its errors are VerifyDir's; unlike that
// it reads the rows only.
func DigestDir(ctx context.Context, fs vfs.FS, dir string, rate int64) (Digest, int64, error) {
	db, closeDB, err := openReadOnly(fs, dir)
	if err != nil {
		return Digest{}, 0, fmt.Errorf("digest: %w", err)
	}
	pos, keys, err := readSystem(db)
	d := newDigester(ctx, rate, nil)
	if err == nil {
		err = walkRows(db, d.add)
	}
	if err = errors.Join(err, closeDB()); err != nil {
		return Digest{}, 0, fmt.Errorf("digest state %s: %w", dir, err)
	}
	return d.sum(pos), keys, nil
}
