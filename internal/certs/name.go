package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ErrWrongNode is matched when a certificate does not name the node that it should.
var ErrWrongNode = errors.New("certificate is of another node")

// scheme of the URI that pins a node's name.
const scheme = "repld"

// nodeURI is repld://CLUSTER/node/NAME.
func nodeURI(cluster, node string) *url.URL {
	return &url.URL{Scheme: scheme, Host: cluster, Path: "/node/" + node}
}

// Names lists who a certificate says to be: its repld URIs as CLUSTER/NAME, and its DNS names.
func Names(c *x509.Certificate) []string {
	var all []string
	for _, u := range c.URIs {
		if u.Scheme == scheme {
			all = append(all, u.Host+"/"+strings.TrimPrefix(u.Path, "/node/"))
		}
	}
	return append(all, c.DNSNames...)
}

// checkName reports whether c may speak for a node of the cluster. A certificate that names nodes by URI is held to them: its DNS names do not widen it, so
// that the certificate of one cluster's node a is not one of another cluster's node a.
func checkName(c *x509.Certificate, cluster, node string) error {
	pinned := false
	for _, u := range c.URIs {
		if u.Scheme != scheme {
			continue
		}
		pinned = true
		if u.String() == nodeURI(cluster, node).String() {
			return nil
		}
	}
	if !pinned && slices.Contains(c.DNSNames, node) {
		return nil
	}
	return fmt.Errorf("%w: it names %s, wanted %s/%s", ErrWrongNode, strings.Join(Names(c), ", "), cluster, node)
}
