// Package access decides who may join a group, what the group may do, and who may operate the broker.
package access
