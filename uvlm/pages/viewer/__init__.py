"""The volume viewer of the evidence page: NiiVue, one file, kept here with hash and licences."""
