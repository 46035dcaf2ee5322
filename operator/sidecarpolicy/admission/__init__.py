"""Admission: what the API server asks while an object is being written.

    request ─► application ─► workloads: a Deployment ─► JSON Patch        the same pure functions as the operator's
                         └──► policies: a policy      ─► yes or no, with the status's words

A review reads the cache and writes nothing, so a dry run is answered like any other request, and a second call for the
same object (reinvocationPolicy: IfNeeded) changes nothing. Whatever fails in here lets the object through as it is: the
operator puts right afterwards what admission has missed, at the price of one more rollout.

Certificates are made by the leader (`keeper`), kept in a Secret, and taken into one SSLContext by every replica
(`loading`), so that the listener never closes.
"""
