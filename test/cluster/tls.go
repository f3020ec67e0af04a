package cluster

import (
	"path/filepath"

	"repld/internal/certs"
)

// secure reports whether the nodes talk TLS.
func (c *Cluster) secure() bool { return !c.Spec.Plain && len(c.Spec.Nodes) > 1 }

// TLSDir is the folder of the cluster's authority and certificates, as replctl certs makes it.
func (c *Cluster) TLSDir() string { return filepath.Join(c.Dir, "tls") }

// issue makes the authority and a certificate for each node.
func (c *Cluster) issue() error {
	if _, err := certs.InitCA(certs.Request{Dir: c.TLSDir(), Cluster: "test"}); err != nil {
		return err
	}
	for _, name := range c.order {
		if _, err := certs.Issue(certs.Request{Dir: c.TLSDir(), Node: name}); err != nil {
			return err
		}
	}
	return nil
}

// tls are the node's files.
func (n *Node) tls() certs.Files {
	dir := n.c.TLSDir()
	return certs.Files{CA: filepath.Join(dir, certs.CACert), Cert: filepath.Join(dir, n.Name+".crt"), Key: filepath.Join(dir, n.Name+".key")}
}
