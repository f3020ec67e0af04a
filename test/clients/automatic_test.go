package clients

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"repld/client"
	"repld/test/cluster"
)

// serverCertificate makes a certificate of 127.0.0.1 in dir and returns who believes it.
func serverCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"clients.crt": chain, "clients.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(chain)
	return pool
}

// TestClientFollowsAutomatic: package client over TLS as a user of its own, told only the configuration file of one node, executes writes by id exactly once while the active is killed and
// another one takes over without a person, and while the group is handed over; it is held to what its user may do.
//
// Faults: P1 (SIGKILL of the active with automatic failover under package client), R6
func TestClientFollowsAutomatic(t *testing.T) {
	files := t.TempDir()
	authority := serverCertificate(t, files)
	users := filepath.Join(files, "users.acl")
	if err := os.WriteFile(users, []byte("user counter on >c0unt ~n* +@read +@write +@connection\nuser reader on >r3ad ~n* +@read +@connection\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Automatic: true, Sentinel: true, SentinelTLS: files + "/clients.crt", Failover: "  backoff: 0s\n",
		Client: fmt.Sprintf("  tls_cert: %s/clients.crt\n  tls_key: %s/clients.key\n  acl_file: %s\n", files, files, users)})
	active, s := c.WaitActive(0, limit)
	as := func(user, password string) *client.Client {
		t.Helper()
		o, err := client.FromConfig(c.Node("a").Config())
		if err != nil {
			t.Fatal(err)
		}
		if len(o.Addrs) != 2 || o.Addrs[1] != c.Node("a").TCP || len(o.Sentinels) != 1 || o.Name != "test" {
			t.Fatalf("the configuration says %+v", o)
		}
		// All nodes are on this host: over TCP alone, so that everything is encrypted. The Sentinel endpoints say where the active is.
		o.Addrs, o.Sentinels = []string{c.Node("a").TCP}, nil
		for _, n := range c.Nodes() {
			o.Sentinels = append(o.Sentinels, n.Guide)
		}
		o.TLS.RootCAs, o.SentinelTLS.RootCAs = authority, authority
		o.User, o.Password, o.Timeout, o.Retention = user, password, 2*time.Minute, time.Hour
		cl, err := client.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cl.Close() })
		return cl
	}
	cl, reader := as("counter", "c0unt"), as("reader", "r3ad")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const workers = 4
	var all sync.WaitGroup
	var counts [workers]atomic.Int64
	for i := range workers {
		all.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				v, err := cl.Do(context.Background(), client.NewID(), "INCR", fmt.Sprint("n", i))
				if err != nil || v != n {
					t.Errorf("increment %d of n%d: %v, %v", n, i, v, err)
					return
				}
				counts[i].Store(n)
			}
		})
	}
	defer all.Wait()
	defer cancel()
	more := func(after string) {
		t.Helper()
		var from [workers]int64
		for i := range from {
			from[i] = counts[i].Load()
		}
		cluster.Until(t, 2*time.Minute, func() error {
			if t.Failed() {
				t.FailNow()
			}
			for i := range from {
				if got := counts[i].Load() - from[i]; got < 20 {
					return fmt.Errorf("after %s n%d went on by %d", after, i, got)
				}
			}
			return nil
		})
	}
	more("the start")
	var refused *client.ServerError
	if _, err := cl.Write(ctx, "SET", "other", "1"); !errors.As(err, &refused) || refused.Code != "NOPERM" {
		t.Errorf("a key that is not the user's: %v", err)
	}
	if _, err := reader.Write(ctx, "SET", "n0", "1"); !errors.As(err, &refused) || refused.Code != "NOPERM" {
		t.Errorf("a user who only reads: %v", err)
	}
	follower := redis.NewFailoverClient(&redis.FailoverOptions{ // one TLSConfig, for Sentinels and nodes
		MasterName: "test", SentinelAddrs: []string{c.Node("a").Guide, c.Node("b").Guide}, Username: "reader", Password: "r3ad", TLSConfig: &tls.Config{RootCAs: authority},
	})
	defer follower.Close()
	if v, err := follower.Get(ctx, "n0").Int64(); err != nil || v == 0 {
		t.Errorf("go-redis with TLS to Sentinels and nodes reads %d, %v", v, err)
	}
	for range rounds() {
		for _, n := range c.Others(active.Name) {
			n.WaitCaughtUp(active, limit)
		}
		active.Kill()
		next, st := c.WaitActive(s.Epoch, limit, active.Name)
		more("a kill")
		active.Start()
		active.WaitCaughtUp(next, limit)
		switchover(t, next, active)
		more("a switchover")
		active, s = c.WaitActive(st.Epoch, limit)
	}
	cancel()
	all.Wait()
	for i := range workers {
		got, err := reader.Read(context.Background(), "GET", fmt.Sprint("n", i))
		if want := fmt.Sprint(counts[i].Load()); err != nil || got != want {
			t.Errorf("n%d is %v (%v), want %s", i, got, err, want)
		}
	}
	// A node that shows a certificate of nobody whom the client believes is not talked to.
	o := client.Options{Addrs: []string{active.TCP}, TLS: &tls.Config{MinVersion: tls.VersionTLS12}, User: "counter", Password: "c0unt", Timeout: time.Second}
	cl2, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer cl2.Close()
	var unknown x509.UnknownAuthorityError
	if _, err := cl2.Read(context.Background(), "GET", "n0"); !errors.As(err, &unknown) || !errors.Is(err, client.ErrNoActive) {
		t.Errorf("an authority that is not believed: %v", err)
	}
}

// TestForwardAutomatic: a client on the socket of a standby keeps its one connection while the active is killed and another node takes over by itself, is told of at most one unknown
// outcome, and while the group is handed over sees nothing at all. Package client is content with such a socket alone.
//
// Faults: P1 (SIGKILL of the active under forwarded writes with automatic failover)
func TestForwardAutomatic(t *testing.T) {
	c := cluster.Processes(t, cluster.Spec{Nodes: cluster.Hot("a", "b", "c"), K: 1, Automatic: true, Forward: true, Failover: "  backoff: 0s\n"})
	active, s := c.WaitActive(0, limit)
	stays := c.Others(active.Name)[0] // never killed
	for _, n := range c.Others(active.Name) {
		n.WaitCaughtUp(active, limit)
	}
	r, conn := local(stays)
	defer r.Close()
	defer conn.Close()
	cl, err := client.New(client.Options{Addrs: []string{stays.Socket}, Timeout: 2 * time.Minute, Retention: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx := context.Background()
	var acked, unknown, last int64
	byID := int64(0)
	writes := func(n int64, during string) {
		t.Helper()
		for end := acked + n; acked < end; {
			got, err := conn.Incr(ctx, "n").Result()
			switch {
			case err == nil && got > last:
				acked++
				last = got
			case err != nil && len(err.Error()) > 7 && err.Error()[:7] == "UNKNOWN":
				unknown++
			default:
				t.Fatalf("%s: answered %d (%v) after %d", during, got, err, last)
			}
			byID++
			if v, err := cl.Do(ctx, client.NewID(), "INCR", "id"); err != nil || v != byID {
				t.Fatalf("%s: increment %d by id: %v, %v", during, byID, v, err)
			}
		}
	}
	writes(20, "at the start")
	active.Kill()
	writes(20, "after a kill")
	next, _ := c.WaitActive(s.Epoch, limit, active.Name)
	before := unknown
	active.Start()
	active.WaitCaughtUp(next, limit)
	done := make(chan struct{})
	go func() {
		defer close(done)
		switchover(t, next, active)
	}()
	writes(50, "during a switchover")
	<-done
	writes(20, "after a switchover")
	if _, last := c.WaitActive(0, limit); last.Epoch > s.Epoch+2 {
		t.Logf("the machine is so busy that there were other failovers too: epoch %d after %d", last.Epoch, s.Epoch)
	} else if before > 1 || unknown != before {
		t.Errorf("%d unknown outcomes over a kill, %d over a switchover", before, unknown-before)
	}
	if n, err := conn.Get(ctx, "n").Int64(); err != nil || n < acked || n > acked+unknown {
		t.Errorf("the counter is %d (%v) after %d answered and %d unknown increments", n, err, acked, unknown)
	}
}
