package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// nodeConfig is what a client has to know of a node's configuration file. Everything else in it is not its business.
type nodeConfig struct {
	Cluster string
	Data    string
	Role    string
	Peers   []struct{ Name, Addr, Client, Role string }
	Node    string
	Client  struct {
		Socket       string
		TCP          string `yaml:"tcp"`
		TLSCert      string `yaml:"tls_cert"`
		PasswordFile string `yaml:"password_file"`
	}
	Sentinel struct {
		Listen, Announce, Name string
		TLSCert                string `yaml:"tls_cert"`
	}
}

// FromConfig reads where the nodes are from the configuration file of one of them, usually the one on this host: its client socket, the addresses for clients of all nodes, and its
// Sentinel endpoint. The password is taken from client.password_file if this process may read it; applications with a user of their own set User and Password afterwards. Where the nodes
// show clients a certificate, TLS and SentinelTLS believe the authorities of the system: set their RootCAs for another one. Flags and REPLD_ variables of the node are not seen.
func FromConfig(path string) (Options, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Options{}, fmt.Errorf("client: %w", err)
	}
	var c nodeConfig
	if err := yaml.Unmarshal(text, &c); err != nil {
		return Options{}, fmt.Errorf("client: %s: %w", path, err)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Options{}, fmt.Errorf("client: %s: %w", path, err)
	}
	in := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(folder, p)
	}
	var o Options
	o.Addrs = c.addrs(in)
	if c.Client.TLSCert != "" {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if at := reachable(c.Sentinel.Announce, c.Sentinel.Listen); at != "" {
		o.Sentinels, o.Name = []string{at}, c.Sentinel.Name
		if o.Name == "" {
			o.Name = c.Cluster
		}
		if c.Sentinel.TLSCert != "" {
			o.SentinelTLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	if len(o.Addrs)+len(o.Sentinels) == 0 {
		return Options{}, fmt.Errorf("client: %s names no address for clients", path)
	}
	if c.Client.PasswordFile != "" {
		secret, err := os.ReadFile(in(c.Client.PasswordFile))
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return Options{}, fmt.Errorf("client: password: %w", err)
		}
		o.Password = strings.TrimRight(string(secret), "\r\n")
	}
	return o, nil
}

// addrs are the node's socket and where clients reach each node over TCP: as peers says, else at the port of this node, which is usually the same on all.
func (c *nodeConfig) addrs(in func(string) string) (out []string) {
	add := func(a string) {
		if a != "" {
			out = append(out, a)
		}
	}
	if c.Role != "witness" {
		socket := in(c.Client.Socket)
		if socket == "" && c.Data != "" {
			socket = filepath.Join(in(c.Data), "client.sock")
		}
		add(socket)
		add(reachable(c.Client.TCP))
	}
	host, port, err := net.SplitHostPort(c.Client.TCP)
	everywhere := err == nil && (host == "" || !loopback(host))
	for _, p := range c.Peers {
		peer, _, err := net.SplitHostPort(p.Addr)
		switch {
		case p.Role == "witness", p.Name == c.Node && p.Client == "":
		case strings.Contains(p.Client, "/"): // a socket on that node's host
		case p.Client != "":
			add(p.Client)
		case everywhere && err == nil:
			add(net.JoinHostPort(peer, port))
		}
	}
	return out
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// reachable is the first address that is set, this host's for one that listens everywhere.
func reachable(addrs ...string) string {
	for _, a := range addrs {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return net.JoinHostPort("127.0.0.1", port)
		}
		return a
	}
	return ""
}
