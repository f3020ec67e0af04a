package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"repld/wal"
)

// restored is what replctl restore says.
type restored struct {
	Position wal.Position `json:"position"`
	Digest   struct {
		Hash wal.Hash `json:"hash"`
	} `json:"digest"`
}

// notEmpty is what it says of a directory with data.
const notEmpty = "directory is not empty"

// storeEnv are the credentials of the object store, which takes any.
var storeEnv = []string{"AWS_ACCESS_KEY_ID=torture", "AWS_SECRET_ACCESS_KEY=torture"}

// store is the archive: a process that serves S3 if there is one beside repld, else a folder.
type store struct {
	p    *play
	url  string
	addr string
	proc *process
}

func newStore(p *play) (*store, error) {
	s := &store{p: p}
	if _, err := os.Stat(beside(p.o, "s3store")); err != nil {
		s.url = "file://" + filepath.Join(p.dir, "archive")
		return s, nil
	}
	var err error
	if s.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	s.url = fmt.Sprintf("s3://copies/repld?endpoint=%s&region=us-east-1&insecure=true", s.addr)
	p.later(func() error { s.proc.kill(); return nil })
	return s, s.start()
}

func (s *store) start() (err error) {
	s.proc, err = launch(filepath.Join(s.p.dir, "s3store.log"), nil, beside(s.p.o, "s3store"), "-listen", s.addr, "-dir", filepath.Join(s.p.dir, "s3store"))
	return err
}

func (s *store) kind() string {
	if s.proc == nil {
		return "a folder"
	}
	return "a process that serves S3"
}

// back restores the cluster that is gone in all three ways, each by processes that are killed at random moments, and compares the digests. It returns the directory to go on with.
func (c *copies) back(next string) (string, error) {
	one, two, last := c.marks[c.rnd.IntN(len(c.marks))], c.marks[c.rnd.IntN(len(c.marks))], c.marks[len(c.marks)-1]
	on := c.rnd.IntN(3)
	chosen := ""
	for i, w := range []struct {
		name string
		m    mark
		args []string
	}{
		{"lsn", one, []string{"--to-lsn", fmt.Sprint(one.at.LSN)}},
		{"time", two, []string{"--to-time", two.time.UTC().Format(time.RFC3339Nano)}},
		{"latest", last, []string{"--latest"}},
	} {
		dir := filepath.Join(c.dir, fmt.Sprintf("a-%d-%s", c.round, w.name))
		r, err := c.restore(dir, append([]string{"--from", c.store.url, "--of", c.cluster, "--as", next, "--node", "a"}, w.args...))
		if err != nil {
			return "", fmt.Errorf("to %s: %w", w.name, err)
		}
		if r.Digest.Hash != w.m.digest || (w.name == "lsn" && r.Position.LSN != w.m.at.LSN) {
			return "", fmt.Errorf("to %s: restored LSN %d with digest %s, recorded was LSN %d with %s", w.name, r.Position.LSN, r.Digest.Hash, w.m.at.LSN, w.m.digest)
		}
		c.restores++
		if i == on {
			chosen = dir
		} else if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return chosen, nil
}

// restore runs replctl restore until it ends by itself: twice it is killed on the way, and perhaps the store, too.
func (c *copies) restore(dir string, args []string) (r restored, err error) {
	for try := 0; ; try++ {
		if try > 20 || c.ctx.Err() != nil {
			return r, fmt.Errorf("it does not come to its end: %w", errors.Join(err, c.ctx.Err()))
		}
		var out, said bytes.Buffer
		cmd := exec.Command(beside(c.o, "replctl"), append([]string{"restore", dir, "-o", "json"}, args...)...)
		cmd.Env = append(os.Environ(), storeEnv...)
		cmd.Stdout, cmd.Stderr = &out, &said
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return r, err
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		if try == 1 && c.rnd.IntN(2) == 0 {
			c.pause(c.upTo(c.took))
			if err := c.killStore(); err != nil {
				return r, err
			}
		}
		if try < 2 {
			select {
			case err = <-done:
			case <-time.After(c.upTo(c.took + c.took/4)):
				if cmd.Process.Kill() == nil {
					c.row.Kills++
					c.restoreKills++
				}
				err = <-done
			}
		} else {
			err = <-done
		}
		if err == nil {
			c.took = time.Since(began)
			return r, json.Unmarshal(out.Bytes(), &r)
		}
		if strings.Contains(said.String(), notEmpty) { // it was killed when all was done
			if err := os.RemoveAll(dir); err != nil {
				return r, err
			}
		}
		err = fmt.Errorf("%w: %s", err, said.String())
	}
}
