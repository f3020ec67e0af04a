// Package peers pins servers that bench measures repld beside: `make bench-servers` builds them. It is a module of its own, so that what they need is not what repld needs.
package peers
