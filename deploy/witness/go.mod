module sidecarpolicy.local/witness

go 1.26.0
