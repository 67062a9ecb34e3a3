// Package metrics shows a broker's counters in the text form of Prometheus.
package metrics
