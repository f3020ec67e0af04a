// Package failover decides who may write.
package failover
