// distribution
