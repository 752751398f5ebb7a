"""What browsers load: the merchant's page and `footfall.js`, plain files, and where they are."""
