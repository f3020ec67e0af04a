package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres are two servers, primary and synchronous standby. They refuse to run as root: then they run as the user postgres, or as nobody.
type postgres struct {
	o   options
	dir string
	as  *syscall.Credential
	run *running
}

// Nothing is tuned but what would come into the middle of a measurement (checkpoints) or refuse the clients. fsync and synchronous_commit are on, as by default.
const postgresConfig = "listen_addresses = ''\nmax_connections = 600\nmax_wal_size = 8GB\ncheckpoint_timeout = 1h\nwal_keep_size = 1GB\nhot_standby = on\n"

func startPostgres(ctx context.Context, o options, dir string) (*running, error) {
	p := &postgres{o: o, dir: dir, run: &running{}}
	if err := p.user(); err != nil {
		return p.run, err
	}
	if err := p.primary(ctx); err != nil {
		return p.run, err
	}
	if err := p.standby(ctx); err != nil {
		return p.run, err
	}
	p.run.open = func(ctx context.Context, x row, w *work) (caller, error) { return p.dial(ctx, x.get(), w) }
	p.run.fill = p.fill
	return p.run, nil
}

func (p *postgres) user() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(p.dir, int(uid), int(gid))
}

// tool runs one of PostgreSQL's programs to its end.
func (p *postgres) tool(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, p.o.program(name), args...)
	c.Dir = p.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func (p *postgres) server(name, port string) error {
	child, err := startAs(p.as, "postgres "+name, filepath.Join(p.o.dir, "postgres-"+name+".log"), p.o.program("postgres"), "-D", filepath.Join(p.dir, name), "-k", p.dir, "-p", port)
	if err == nil {
		child.end = syscall.SIGINT // a "fast" stop: SIGTERM would wait for clients
		p.run.all = append(p.run.all, child)
	}
	return err
}

func (p *postgres) connect(ctx context.Context, port string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable", p.dir, port))
}

const primaryPort, standbyPort = "5432", "5433"

func (p *postgres) primary(ctx context.Context) error {
	if err := p.tool(ctx, "initdb", "-D", filepath.Join(p.dir, "a"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C"); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(p.dir, "a", "postgresql.conf"), postgresConfig); err != nil {
		return err
	}
	if err := p.server("a", primaryPort); err != nil {
		return err
	}
	return poll(ctx, p.run, func(ctx context.Context) bool {
		return p.exec(ctx, "CREATE TABLE IF NOT EXISTS kv (k text PRIMARY KEY, v bytea NOT NULL)") == nil
	})
}

// standby copies the primary, follows it, and only then writes wait for it.
func (p *postgres) standby(ctx context.Context) error {
	if err := p.tool(ctx, "pg_basebackup", "-D", filepath.Join(p.dir, "b"), "-h", p.dir, "-p", primaryPort, "-U", "postgres", "-X", "stream", "-c", "fast"); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(p.dir, "b", "postgresql.conf"), fmt.Sprintf("primary_conninfo = 'host=%s port=%s user=postgres application_name=b'\n", p.dir, primaryPort)); err != nil {
		return err
	}
	if err := appendFile(filepath.Join(p.dir, "b", "standby.signal"), ""); err != nil {
		return err
	}
	if err := p.server("b", standbyPort); err != nil {
		return err
	}
	if err := p.exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = 'b'"); err != nil {
		return err
	}
	if err := p.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return poll(ctx, p.run, func(ctx context.Context) bool {
		c, err := p.connect(ctx, primaryPort)
		if err != nil {
			return false
		}
		defer c.Close(ctx)
		var state string
		return c.QueryRow(ctx, "SELECT sync_state FROM pg_stat_replication").Scan(&state) == nil && state == "sync"
	})
}

func (p *postgres) exec(ctx context.Context, sql string, args ...any) error {
	c, err := p.connect(ctx, primaryPort)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql, args...)
	return errors.Join(err, c.Close(ctx))
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (p *postgres) fill(ctx context.Context, o options) error {
	c, err := p.connect(ctx, primaryPort)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	w, n := newWork(1e6, o.keys, o.value), 0
	_, err = c.CopyFrom(ctx, pgx.Identifier{"kv"}, []string{"k", "v"}, pgx.CopyFromFunc(func() ([]any, error) {
		if n == o.keys {
			return nil, nil
		}
		w.setKey(n)
		w.setValue()
		n++
		return []any{string(w.key), w.value}, nil
	}))
	return err
}

// postgresCaller is one client with prepared statements; each SET is a transaction.
type postgresCaller struct {
	c   *pgx.Conn
	get bool
	w   *work
	end time.Time
}

func (p *postgres) dial(ctx context.Context, get bool, w *work) (caller, error) {
	c, err := p.connect(ctx, primaryPort)
	if err != nil {
		return nil, err
	}
	for name, sql := range map[string]string{
		"put": "INSERT INTO kv (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
		"get": "SELECT v FROM kv WHERE k = $1",
	} {
		if _, err := c.Prepare(ctx, name, sql); err != nil {
			return nil, errors.Join(err, c.Close(ctx))
		}
	}
	return &postgresCaller{c: c, get: get, w: w}, nil
}

func (p *postgresCaller) bound(t time.Time) error { p.end = t; return nil }

func (p *postgresCaller) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.c.Close(ctx)
}

func (p *postgresCaller) call(ctx context.Context, n int) error {
	ctx, cancel := context.WithDeadline(ctx, p.end)
	defer cancel()
	for range n {
		p.w.next()
		var err error
		if p.get {
			var v []byte
			err = p.c.QueryRow(ctx, "get", string(p.w.key)).Scan(&v)
		} else {
			_, err = p.c.Exec(ctx, "put", string(p.w.key), p.w.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
